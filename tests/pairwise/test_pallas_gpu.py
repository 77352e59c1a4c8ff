"""The fused GPU kernel against the blockwise folds: emulated on the CPU, and lowered for CUDA."""

import sys
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, PartitionSpec

from hyperface_jax import meshes, sphere
from hyperface_jax.packing.energies import SoftMax
from hyperface_jax.packing.schedules import Annealing
from hyperface_jax.pairwise import (
    Sweep,
    count_above,
    k_nearest,
    max_cosine,
    nearest,
    pair_sum,
    pallas_gpu,
)
from hyperface_jax.pairwise.blockwise import Folds
from hyperface_jax.pairwise.pallas_gpu import PallasFolds
from hyperface_jax.pairwise.precision import Precision
from hyperface_jax.pairwise.rows import numbered

ENERGY = SoftMax(Annealing(20.0, 200.0, num_steps=100))


def _exp_pair(scores):
    weight = jnp.exp(10.0 * scores)
    return weight, 10.0 * weight


def _soft_max(step, shift, precision: Precision = "float32"):
    return pair_sum(lambda s: ENERGY.pair(s, step=step, shift=shift), precision=precision)


REDUCTIONS = {
    "pair_sum": pair_sum(_exp_pair),
    "nearest": nearest(),
    "max_cosine": max_cosine(),
    "count_above": count_above(0.1),
}


def _empty(reduction, rows):
    return reduction.init(*rows.x.shape, rows.x.dtype)


def _points(key, num_points, dim, first=0):
    x = sphere.sample_uniform(key, num_points, dim)
    return numbered(x.at[num_points // 3].set(0.0), first)


def _assert_same(found, want, rtol=2e-5, atol=2e-6):
    for got, expected in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert got.dtype == expected.dtype
        finite = np.where(np.isfinite(expected), expected, 0).astype(np.float64)
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol * np.abs(finite).max())


@pytest.mark.parametrize(
    ("name", "num_points", "dim"),
    [
        *((name, 100, 6) for name in REDUCTIONS),
        ("pair_sum", 7, 6),
        ("nearest", 7, 6),
        ("pair_sum", 45, 512),
        ("max_cosine", 45, 512),
    ],
)
def test_parity_with_blockwise(key, name, num_points, dim):
    """All reductions over several tiles; rows below a tile and wide rows for two kinds of carries."""
    reduction = REDUCTIONS[name]
    rows, columns = _points(key, num_points, dim), _points(jax.random.key(1), 33, dim, first=500)

    @jax.jit
    def swept(rows, columns):
        def carries(folds):
            own, other = _empty(reduction, rows), _empty(reduction, columns)
            own = folds.within(own, rows)
            onto = folds.onto(own, rows, columns)
            return own, onto, folds.both(own, rows, other, columns)

        return (
            carries(PallasFolds(reduction, 32, interpret=True)),
            carries(Folds(reduction, 32, "float32")),
        )

    _assert_same(*swept(rows, columns))


@pytest.mark.parametrize("reduction_precision", ["bf16", "float32"])
def test_parity_of_bf16_products(key, reduction_precision):
    reduction = pair_sum(_exp_pair, precision=reduction_precision)
    rows = _points(key, 50, 20)
    found = PallasFolds(reduction, None, "bf16", interpret=True).within(
        _empty(reduction, rows), rows
    )
    want = Folds(reduction, 64, "bf16").within(_empty(reduction, rows), rows)
    _assert_same(found, want, rtol=1e-4, atol=3e-3)


def test_traced_values_reach_the_kernel(key):
    """The soft maximum's shift and the step of its schedule are traced by the solver's scan."""
    rows = _points(key, 40, 6)

    @jax.jit
    def both_ways(step, shift):
        reduction = _soft_max(step, shift)
        empty = _empty(reduction, rows)
        pallas = PallasFolds(reduction, 16, interpret=True)
        return pallas.within(empty, rows), Folds(reduction, 16, "float32").within(empty, rows)

    for step, shift in ((0, 0.9), (70, 0.8)):
        found, want = both_ways(step, shift)
        assert float(want.value[0]) > 0
        _assert_same(found, want)


def test_a_schedule_is_evaluated_outside_the_kernel(key):
    rows = _points(key, 20, 6)

    def swept(step, shift):
        reduction = _soft_max(step, shift)
        return PallasFolds(reduction, interpret=True).within(_empty(reduction, rows), rows)

    equations = jax.make_jaxpr(swept)(3, 0.5).jaxpr.eqns
    (kernel,) = (e.params["jaxpr"] for e in equations if e.primitive.name == "pallas_call")
    assert "pow" in str(equations)
    assert "pow" not in str(kernel)


def _absent_gpus(number):
    """GPUs that are not here. Since jax 0.11 a Triton kernel is lowered for a kind of device."""
    about = {"device_kind": "NVIDIA H100", "num_cores": None, "platform": "cuda"}
    known = {field.name for field in fields(AbstractDevice)}
    device = AbstractDevice(**{name: about[name] for name in known})
    return AbstractMesh((number,), (meshes.ROWS,), (AxisType.Auto,), abstract_device=device)


def _lowered_for_cuda(function, *shapes, num_devices, spec):
    mesh = _absent_gpus(num_devices)
    mapped = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec))
    return mapped.trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["soft_max", "max_cosine", "nearest", "count_above"])
def test_lowers_for_cuda_without_a_score_matrix(name, precision):
    def swept(x, step, shift):
        is_sum = name == "soft_max"
        reduction = _soft_max(step, shift, precision) if is_sum else REDUCTIONS[name]
        rows = numbered(x)
        return PallasFolds(reduction, None, precision).within(_empty(reduction, rows), rows)

    x = jax.ShapeDtypeStruct((4096, 512), jnp.float32)
    step, shift = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    text = _lowered_for_cuda(swept, x, step, shift, num_devices=1, spec=PartitionSpec())
    assert "xla.gpu.triton" in text or "triton_kernel_call" in text
    assert "4096x512" in text
    assert "4096x4096" not in text


def test_lowers_within_a_ring():
    reduction = pair_sum(_exp_pair)

    def swept(x):
        rows = numbered(x)
        return PallasFolds(reduction).within(_empty(reduction, rows), rows)

    x = jax.ShapeDtypeStruct((256, 64), jnp.float32)
    text = _lowered_for_cuda(swept, x, num_devices=2, spec=PartitionSpec(meshes.ROWS))
    assert "triton" in text


@pytest.mark.parametrize(
    ("dim", "reduction", "precision", "said"),
    [
        (1025, max_cosine(), "float32", "at most 1024 do: use 'blockwise'"),
        (8, k_nearest(3), "float32", "cannot sort, so it has no k nearest rows"),
        (8, max_cosine(), "bf16_x3", "has no bf16_x3 products: choose bf16, tf32, float32"),
    ],
)
def test_what_the_kernel_does_not_have_is_refused(dim, reduction, precision, said, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    sweep = Sweep(implementation="pallas", precision=precision)
    with pytest.raises(NotImplementedError, match=f"implementation='pallas'.*{said}"):
        sweep(jnp.ones((16, dim)), reduction=reduction)


def test_a_jax_without_the_triton_backend_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(sys.modules, "hyperface_jax.pairwise.pallas_gpu", None)
    with pytest.raises(NotImplementedError, match="this JAX has no Triton backend"):
        Sweep(implementation="pallas")(jnp.eye(4), reduction=max_cosine())


@pytest.mark.parametrize(
    ("limit", "num_rows", "side"),
    [(64, 1000, 64), (48, 1000, 32), (64, 33, 64), (64, 17, 32), (1, 5, 16)],
)
def test_sides_are_powers_of_two(limit, num_rows, side):
    assert pallas_gpu._side(limit, num_rows) == side


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("dim", [6, 128, 256, 512, 1024])
@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [
        *((name, "float32", 2e-6) for name in REDUCTIONS),
        ("pair_sum", "tf32", 3e-3),
        ("pair_sum", "bf16", 1e-2),
        ("max_cosine", "bf16", 1e-2),
    ],
)
def test_parity_on_a_gpu(key, name, dim, precision, tolerance):
    is_sum = name == "pair_sum"
    reduction = pair_sum(_exp_pair, precision=precision) if is_sum else REDUCTIONS[name]
    rows = _points(key, 300, dim)
    empty = _empty(reduction, rows)
    found = jax.jit(PallasFolds(reduction, None, precision).within)(empty, rows)
    want = jax.jit(Folds(reduction, 128, precision).within)(empty, rows)
    _assert_same(found, want, rtol=10 * tolerance, atol=tolerance)

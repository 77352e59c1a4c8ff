"""The margin soft-max: dense, with classes over devices, and with sampled classes."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.recognition import losses
from hyperface_jax.recognition.losses import margin_loss, sample_classes, sample_size
from hyperface_jax.recognition.margins import AdaFace, ArcFace, CosFace

N, D, C = 24, 16, 1001
HEADS = [ArcFace(), CosFace(), AdaFace(t_alpha=0.5)]


def _mesh(count):
    return meshes.make_mesh(jax.devices()[:count])


def _problem(num_classes=C):
    """Embeddings near their classes, raw lengths, and one row that only fills up."""
    keys = jax.random.split(jax.random.key(2), 4)
    weights = jax.random.normal(keys[0], (num_classes, D))
    labels = jax.random.randint(keys[1], (N,), 0, num_classes).at[:3].set(num_classes - 1)
    embeddings = weights[labels] + 0.7 * jax.random.normal(keys[2], (N, D))
    embeddings = embeddings * jax.random.uniform(keys[3], (N, 1), minval=0.3, maxval=10)
    return embeddings.at[7].set(0), labels.at[7].set(-1), weights


@partial(jax.jit, static_argnames=("head", "mesh", "sample_rate"))
def _evaluated(head, embeddings, labels, weights, **settings):
    """Return ((loss, state), gradients with respect to embeddings and class weights)."""

    def loss(embeddings, weights):
        return margin_loss(head, head.init_state(), embeddings, labels, weights, **settings)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(embeddings, weights)


def _assert_close(got, want, tolerance=1e-6):
    (loss, state), grads = got
    (wanted_loss, wanted_state), wanted_grads = want
    np.testing.assert_allclose(loss, wanted_loss, rtol=tolerance)
    for a, b in zip(state, wanted_state, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance)
    for a, b in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@partial(jax.jit, static_argnames="head")
def _textbook(head, embeddings, labels, weights):
    """Cross-entropy of the faces alone, by the soft-max of optax."""
    real = np.delete(np.arange(N), 7)

    def loss(embeddings, weights):
        faces, own = embeddings[real], labels[real]
        norms = jnp.linalg.norm(faces, axis=1)
        unit = faces / norms[:, None]
        cosine = unit @ (weights / jnp.linalg.norm(weights, axis=1, keepdims=True)).T
        place = jnp.arange(len(real)), own
        target, state = head.target_logits(
            cosine[place], norms, jnp.ones(len(real), bool), head.init_state()
        )
        logits = (head.scale * cosine).at[place].set(target)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, own)
        return jnp.mean(each), state

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(embeddings, weights)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_the_dense_loss_is_the_cross_entropy_of_the_faces(head):
    problem = _problem()
    _assert_close(_evaluated(head, *problem), _textbook(head, *problem), 3e-6)


@pytest.mark.parametrize(
    ("head", "num_devices"),
    [(HEADS[0], 3), (HEADS[1], 8), *((HEADS[2], count) for count in (1, 2, 3, 8))],
    ids=str,
)
def test_classes_over_devices_give_the_dense_loss(head, num_devices):
    """On all meshes for AdaFace alone, as only its statistics are of the whole batch."""
    problem, mesh = _problem(), _mesh(num_devices)
    _assert_close(_evaluated(head, *problem, mesh=mesh), _evaluated(head, *problem))


@pytest.mark.parametrize(("num_classes", "num_devices"), [(2, 8), (9, 8), (4, 3)])
def test_devices_with_few_classes_or_none_agree_too(num_classes, num_devices):
    problem, mesh = _problem(num_classes), _mesh(num_devices)
    _assert_close(_evaluated(CosFace(), *problem, mesh=mesh), _evaluated(CosFace(), *problem))


@pytest.mark.parametrize(("num_devices", "size"), [(2, 1002), (8, 1024)])
def test_rows_of_zeros_are_no_classes(num_devices, size):
    (embeddings, labels, weights), mesh = _problem(), _mesh(num_devices)
    padded = meshes.shard_rows(weights, mesh, size)
    value, grads = _evaluated(ArcFace(), embeddings, labels, padded, mesh=mesh)
    assert not np.any(grads[1][C:])
    dense = _evaluated(ArcFace(), embeddings, labels, weights)
    _assert_close((value, (grads[0], grads[1][:C])), dense)


def test_rows_that_only_fill_up_get_no_gradient_and_change_nothing():
    embeddings, labels, weights = _problem()
    stray = embeddings.at[7].set(100.0)
    (value, grads), zero = (_evaluated(AdaFace(), e, labels, weights) for e in (stray, embeddings))
    assert not np.any(grads[0][7])
    assert not np.any(zero[1][0][7])
    _assert_close((value, grads), zero)


def test_a_batch_without_a_face_has_loss_and_gradient_zero():
    embeddings, labels, weights = _problem()
    none = 0 * embeddings, jnp.full_like(labels, -1), weights
    (loss, _), grads = _evaluated(AdaFace(), *none, mesh=_mesh(3))
    assert loss == 0
    assert not any(np.any(grad) for grad in grads)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_sixteen_bit_and_tiny_embeddings_give_finite_float32_losses(head):
    embeddings, labels, weights = _problem()
    embeddings = embeddings.at[0].set(1e-6).at[1].set(weights[labels[1]]).astype(jnp.bfloat16)
    (loss, state), grads = _evaluated(
        head, embeddings, labels, weights.astype(jnp.bfloat16), mesh=_mesh(2)
    )
    assert loss.dtype == jnp.float32
    assert [grad.dtype for grad in grads] == [jnp.bfloat16] * 2
    for leaf in jax.tree.leaves((loss, state, grads)):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


def test_logits_that_leave_the_range_of_exp_stay_finite():
    embeddings, labels, weights = _problem()
    (loss, _), grads = _evaluated(CosFace(scale=1e4), embeddings, labels, weights)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(grad)) for grad in grads)


# Sampling


def _chosen(key, labels, num_devices, sample_rate):
    """Return the classes that the devices draw, and the labels among them."""
    num_local = -(-C // num_devices)
    size = sample_size(num_local, N, sample_rate)
    draw = jax.jit(sample_classes, static_argnums=(2, 3))
    firsts = np.arange(num_devices) * num_local
    local = [jnp.where(labels >= 0, labels - first, -1) for first in firsts]
    chosen = np.concatenate(
        [
            first + np.asarray(draw(jax.random.fold_in(key, i), own, num_local, size))
            for i, (first, own) in enumerate(zip(firsts, local, strict=True))
        ]
    )
    return chosen, jnp.where(labels >= 0, np.searchsorted(chosen, labels), -1)


def test_a_sampled_loss_is_the_dense_loss_of_the_sample(mesh, key):
    head, (embeddings, labels, weights) = AdaFace(t_alpha=0.5), _problem()
    value, grads = _evaluated(
        head, embeddings, labels, weights, mesh=mesh, sample_rate=0.1, key=key
    )
    chosen, remapped = _chosen(key, labels, mesh.size, 0.1)
    padded = meshes.pad_rows(weights, -(-C // mesh.size) * mesh.size)
    dense = _evaluated(head, embeddings, remapped, padded[chosen])
    spread = np.zeros_like(padded)
    spread[chosen] = dense[1][1]
    _assert_close((value, grads), (dense[0], (dense[1][0], spread[:C])))


def test_without_a_mesh_the_sample_is_that_of_one_device(key):
    settings = {"sample_rate": 0.1, "key": key}
    one = _evaluated(CosFace(), *_problem(), mesh=_mesh(1), **settings)
    _assert_close(_evaluated(CosFace(), *_problem(), **settings), one)


@pytest.mark.parametrize("num_devices", [1, 8])
def test_a_sample_rate_of_one_is_the_unsampled_loss(num_devices, key):
    problem, mesh = _problem(), _mesh(num_devices)
    whole = _evaluated(ArcFace(), *problem, mesh=mesh)
    sampled = _evaluated(ArcFace(), *problem, mesh=mesh, sample_rate=1.0, key=key)
    for a, b in zip(jax.tree.leaves(sampled), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keys_draw_different_classes_and_so_do_devices(key):
    mesh, problem = _mesh(8), _problem()
    draws = []
    for drawn in jax.random.split(key, 2):
        _, grads = _evaluated(CosFace(), *problem, mesh=mesh, sample_rate=0.1, key=drawn)
        draws.append(np.any(np.asarray(grads[1]), axis=1))
    assert np.any(draws[0] != draws[1])
    places = [tuple(np.flatnonzero(draws[0][i * 126 : (i + 1) * 126])) for i in range(8)]
    assert len(set(places)) == 8


@pytest.mark.parametrize("size", [24, 60, 99])
def test_a_sample_is_sorted_without_repeats_and_keeps_all_classes_of_the_batch(key, size):
    labels = jnp.concatenate([jnp.arange(20) * 5, jnp.array([-1, 100, 250, 5])])
    chosen = np.asarray(sample_classes(key, labels, 100, size))
    assert chosen.shape == (size,)
    assert np.all(np.diff(chosen) > 0)
    assert 0 <= chosen[0] <= chosen[-1] < 100
    assert set(range(0, 100, 5)) <= set(chosen.tolist())


def test_other_classes_are_drawn_evenly(key):
    labels, num_draws = jnp.arange(10), 4000
    draw = jax.vmap(lambda key: sample_classes(key, labels, 50, 20))
    counts = np.bincount(np.ravel(draw(jax.random.split(key, num_draws))), minlength=50)
    assert np.all(counts[:10] == num_draws)
    deviation = np.sqrt(num_draws * 0.25 * 0.75)
    assert np.all(np.abs(counts[10:] - num_draws / 4) < 5 * deviation)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (N, {"sample_rate": 0.0}, "sample_rate=0.0: must be more than 0 and at most 1"),
        (N, {"sample_rate": 1.5}, "sample_rate=1.5: must be more than 0"),
        (N, {"sample_rate": 0.5}, "sampling needs a key"),
        (20, {}, "20 rows cannot be cut over 8 devices: fill it up with rows of label -1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(rows, settings, message):
    embeddings, labels, weights = _problem()
    batch = CosFace(), CosFace().init_state(), embeddings[:rows], labels[:rows], weights
    with pytest.raises(InputError, match=message):
        margin_loss(*batch, mesh=_mesh(8), **settings)


# Processes and memory


def _run_processes(count, arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    jobs = []
    for number in range(count):
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": "4",
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
        }
        script = Path(__file__).with_name("two_process_losses.py")
        command = [sys.executable, str(script), *map(str, arguments)]
        jobs.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for job in jobs:
        _, error = job.communicate(timeout=300)
        assert job.returncode == 0, error


def test_two_processes_of_four_devices_give_the_loss_of_eight(tmp_path):
    embeddings, labels, weights = _problem()
    np.savez(tmp_path / "problem.npz", embeddings=embeddings, labels=labels, class_weights=weights)
    _run_processes(2, [tmp_path / "problem.npz", tmp_path / "result.npz"])
    result = np.load(tmp_path / "result.npz")
    assert (result["num_processes"], result["num_devices"]) == (2, 8)
    padded = meshes.pad_rows(weights, 1008)
    for rate in (1.0, 0.1):
        settings = {"mesh": _mesh(8), "sample_rate": rate, "key": jax.random.key(5)}
        want = _evaluated(AdaFace(), embeddings, labels, padded, **settings)
        got = [result[f"{rate}-{i}"] for i in range(5)]
        _assert_close(((got[0], got[1:3]), got[3:]), want)


def _compiled_step(mesh, batch_size, num_classes, dim, sample_rate):
    """Compile loss, gradient and SGD with momentum from shapes; nothing is allocated."""
    head, optimizer = AdaFace(), optax.sgd(0.1, momentum=0.9)
    weights = jax.ShapeDtypeStruct((num_classes, dim), jnp.float32)
    embeddings = jax.ShapeDtypeStruct((batch_size, dim), jnp.float32, sharding=meshes.rows(mesh))
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=meshes.replicated(mesh))
    trained = weights, jax.eval_shape(optimizer.init, weights), jax.eval_shape(head.init_state)
    trained = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        trained,
        meshes.tree_shardings(trained, num_classes, mesh),
    )

    def step(trained, embeddings, labels, key):
        weights, momentum, state = trained

        def loss(embeddings, weights):
            draw = {"sample_rate": sample_rate, "key": key}
            return margin_loss(head, state, embeddings, labels, weights, mesh=mesh, **draw)

        (value, state), (to_network, grad) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
            embeddings, weights
        )
        update, momentum = optimizer.update(grad, momentum)
        return (optax.apply_updates(weights, update), momentum, state), to_network, value

    key = jax.eval_shape(jax.random.key, 0)
    jitted = jax.jit(step, donate_argnums=0)
    return jitted.lower(trained, embeddings, labels, key).compile()


@pytest.mark.fully_optimized
@pytest.mark.parametrize(("sample_rate", "size"), [(1.0, 125_000), (0.1, 12_500)])
def test_a_million_classes_on_eight_devices_need_no_more_memory_than_foretold(sample_rate, size):
    compiled = _compiled_step(_mesh(8), 64, 1_000_000, 512, sample_rate)
    memory: Any = compiled.memory_analysis()
    used = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    assert used <= 1.3 * losses.memory_bytes(1_000_000, 512, 64, 8, sample_rate)
    program = str(compiled.as_text())
    assert f"f32[64,{size}]" in program
    assert ("f32[64,125000]" in program) == (size == 125_000)
    assert "[64,1000000]" not in program
    assert "[1000000,512]" not in program

"""The step compiled for TPU slices: what overlaps, what is stored, and how much moves.

The tests need libtpu, not a TPU; those of the reader of HLO text need neither.
"""

import functools

import jax
import numpy as np
import pytest

from benchmarks import hlo, tpu_aot
from hyperface_jax import meshes
from hyperface_jax.pairwise import Sweep, max_cosine

pytestmark = pytest.mark.fully_optimized

HLO = """\
HloModule tiny, is_scheduled=true, entry_computation_layout={(f32[64,8]{1,0})->f32[64,8]{1,0}}

%fused (p0: f32[64,8], p1: f32[8,8], p2: s32[]) -> f32[64,8] {
  %p0 = f32[64,8]{1,0} parameter(0)
  %p1 = f32[8,8]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %part = f32[8,8]{1,0} dynamic-slice(%p0, %p2, %zero), dynamic_slice_sizes={8,8}
  %product = f32[8,8]{1,0} convolution(%part, %p1), dim_labels=bf_io->bf, operand_precision={highest}
  ROOT %updated = f32[64,8]{1,0} dynamic-update-slice(%p0, %product, %p2, %zero)
}

%body (state: (s32[], f32[64,8], f32[8,8])) -> (s32[], f32[64,8], f32[8,8]) {
  %state = (s32[], f32[64,8]{1,0:T(8,128)}, /*index=2*/f32[8,8]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %all = f32[64,8]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %tile = f32[8,8]{1,0:T(8,128)S(1)} get-tuple-element(%state), index=2
  %start = (f32[8,8]{1,0:T(8,128)S(1)}, f32[8,8]{1,0:T(8,128)S(1)}) collective-permute-start(%tile)
  %next = f32[64,8]{1,0:T(8,128)} fusion(%all, %tile, %i), kind=kOutput, calls=%fused
  %done = f32[8,8]{1,0:T(8,128)S(1)} collective-permute-done(%start)
  %one = s32[] constant(1)
  %j = s32[] add(%i, %one)
  ROOT %out = (s32[], f32[64,8]{1,0:T(8,128)}, f32[8,8]{1,0:T(8,128)S(1)}) tuple(%j, %next, %done)
}

%is_left (state.1: (s32[], f32[64,8], f32[8,8])) -> pred[] {
  %state.1 = (s32[], f32[64,8]{1,0:T(8,128)}, f32[8,8]{1,0:T(8,128)S(1)}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %stop = s32[] constant(10)
  ROOT %less = pred[] compare(%i.1, %stop), direction=LT
}

ENTRY %main (x: f32[64,8], y: bf16[8,8]) -> f32[64,8] {
  %x = f32[64,8]{1,0:T(8,128)} parameter(0)
  %y = bf16[8,8]{1,0:T(8,128)} parameter(1)
  %first = s32[] constant(4)
  %wide = f32[8,8]{1,0:T(8,128)S(1)} convert(%y)
  %sent = bf16[8,8]{1,0:T(8,128)} collective-permute(%y)
  %go = (s32[], f32[64,8]{1,0:T(8,128)}, f32[8,8]{1,0:T(8,128)S(1)}) tuple(%first, %x, %wide)
  %loop = (s32[], f32[64,8]{1,0}, f32[8,8]{1,0:T(8,128)S(1)}) while(%go), condition=%is_left, body=%body
  ROOT %result = f32[64,8]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_loops_count_as_often_as_they_run_and_slices_as_slices():
    scalars = 3 * 4  # the loop's counter, read by the fusion, read and written by the addition
    scalar_constant = 4
    once = 2 * 8 * 8
    traffic = hlo.traffic(HLO)
    assert traffic.flops == 6 * 2 * 8**3
    assert traffic.passed_flops == 6 * traffic.flops
    assert hlo.traffic(HLO.replace("{highest}", "{high,high}")).passed_flops == 3 * traffic.flops
    assert hlo.traffic(HLO.replace("{highest}", "{default}")).passed_flops == traffic.flops
    each = 4 * 8 * 8
    assert traffic.hbm_bytes == once + 2 * once + 6 * (2 * each + scalars + scalar_constant)


def test_a_transfer_hides_behind_what_lies_between_its_start_and_its_end():
    synchronous, hop = sorted(hlo.permutes(HLO))
    assert synchronous == hlo.Permute(False, 1, 2 * 8 * 8)
    assert hop == hlo.Permute(True, 6, 6 * 4 * 8 * 8, hidden_flops=2 * 8**3, hidden_loops=0)


def test_the_largest_array_counts_elements():
    assert hlo.largest_array(HLO).dims == (64, 8)


def test_an_open_loop_takes_the_number_that_it_is_given():
    text = HLO.replace("constant(4)", "custom-call()")
    assert hlo.traffic(text, unknown_trips=2.5).flops == 2.5 * 2 * 8**3
    with pytest.raises(ValueError, match="loop runs from or to a variable"):
        hlo.traffic(text)


SHAPES = {
    "v5e:8x8": 64 * 8192,
    "v5p:2x2x2": 8 * 16_384,
    "v5e:2x4": 1_000_000,
}
tpu = pytest.mark.tpu_aot


@pytest.fixture(autouse=True, scope="module")
def flags_are_read_for_the_cpu_alone():
    """Libtpu ends the process at a flag that it does not know."""
    jax.block_until_ready(jax.numpy.ones(2) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS", raising=False)
        yield


@pytest.fixture(scope="module")
def compiled():
    """Compile once for each slice and each setting of the step."""
    pytest.importorskip("libtpu")

    @functools.cache
    def step(topology, precision, track_best):
        settings = {"precision": precision, "track_best": track_best}
        return tpu_aot.compiled(topology, SHAPES[topology], **settings)

    def get(topology, *, precision="float32", track_best=True):
        return step(topology, precision, track_best)

    return get


@pytest.fixture(params=SHAPES)
def step(compiled, request):
    return compiled(request.param)


@pytest.fixture(params=[shape for shape in SHAPES if shape.startswith("v5e")])
def v5e_step(compiled, request):
    return compiled(request.param)


@tpu
def test_transfers_of_the_ring_overlap_with_its_products(step):
    assert all(hop.asynchronous for hop in step.hops)
    rows = [hop for hop in step.hops if hop.num_bytes / hop.times == 4 * step.chunk * step.dim]
    assert len(rows) == 2
    meeting = 6 * step.local_rows * step.chunk * step.dim
    assert all(hop.hidden_loops == 1 and hop.hidden_flops == meeting for hop in rows)


@tpu
@pytest.mark.parametrize(
    ("precision", "track_best", "passes"),
    [("float32", True, 6), ("bf16_x3", True, 3), ("bf16", True, 1)],
)
def test_precisions_take_their_passes(compiled, precision, track_best, passes):
    traffic = compiled("v5e:2x4", precision=precision, track_best=track_best).traffic
    assert traffic.passed_flops == pytest.approx(passes * traffic.flops)


@tpu
def test_scores_are_never_stored(step):
    assert np.prod(step.program.largest_array().dims) <= step.local_rows * step.dim
    assert not tpu_aot.score_tile(step)["exponentials_outside_product_fusions"]


@tpu
def test_tiles_stay_on_the_chip(v5e_step):
    assert v5e_step.has_tiles_in_vmem()


@tpu
def test_no_product_of_a_v5p_leaves_its_result_on_the_chip(compiled):
    """The reason why traffic is many times the ideal there; docs/scaling.md gives it."""
    places = {
        topology: tpu_aot.product_results(compiled(topology))
        for topology in ("v5p:2x2x2", "v5e:8x8")
    }
    assert places["v5p:2x2x2"]["vmem"] == 0 < places["v5p:2x2x2"]["hbm"]
    assert places["v5e:8x8"]["vmem"] > 0


@tpu
def test_products_cost_what_the_sweep_promises(step):
    n = step.local_rows * step.num_devices
    promised = 3 * n**2 * step.dim / step.num_devices
    opposite = 1 + 1 / (
        3 * step.num_devices
    )  # each side of two opposite shards computes the scores
    diagonal = 1 + step.block / n
    assert promised <= step.traffic.flops <= 1.001 * promised * opposite * diagonal


@tpu
def test_hbm_traffic_is_within_twice_the_ideal(v5e_step):
    assert v5e_step.traffic.hbm_bytes <= 2 * v5e_step.ideal_hbm_bytes()


@tpu
@pytest.mark.parametrize("topology", ["v5e:8x8", "v5e:16x16", "v5p:2x2x2"])
def test_devices_follow_each_other_around_the_torus(topology):
    pytest.importorskip("libtpu")
    cells = np.array([device.coords for device in tpu_aot.slice_mesh(topology).devices])
    sides = cells.max(axis=0) + 1
    apart = np.abs(cells - np.roll(cells, -1, axis=0))
    assert (np.minimum(apart, sides - apart).sum(axis=1) == 1).all()


@tpu
def test_row_major_order_would_not_overlap():
    pytest.importorskip("libtpu")
    ours = tpu_aot.slice_mesh("v5e:8x8")
    by_number = sorted(ours.devices, key=lambda device: device.id)
    row_major = jax.sharding.Mesh(np.array(by_number), ours.axis_names, axis_types=ours.axis_types)
    assert are_hops_asynchronous(ours)
    assert not are_hops_asynchronous(row_major)


def are_hops_asynchronous(mesh):
    sweep = Sweep(mesh, implementation="blockwise")
    x = jax.ShapeDtypeStruct((SHAPES["v5e:8x8"], 512), "float32", sharding=meshes.rows(mesh))
    program = jax.jit(lambda x: sweep(x, reduction=max_cosine())).lower(x).compile()
    permutes = hlo.permutes(program.as_text(), unknown_trips=1)
    most = max(permute.times for permute in permutes)
    return all(permute.asynchronous for permute in permutes if permute.times == most)


@tpu
@pytest.mark.parametrize("track_best", [True, False])
def test_memory_is_that_of_the_sharded_arrays(compiled, track_best):
    step = compiled("v5e:2x4", track_best=track_best)
    points = 4 * step.dim * SHAPES["v5e:2x4"] / step.num_devices
    assert step.memory_bytes <= 1.3 * step.arrays * points

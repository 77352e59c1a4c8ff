"""The cost model against tiles counted one by one, and against compiled programs."""

import json
from itertools import product
from pathlib import Path

import jax
import pytest

from hyperface_jax import meshes
from hyperface_jax.errors import InputError
from hyperface_jax.packing import Annealed, Loop, MiniBatch, PackingProblem
from hyperface_jax.pairwise import Sweep
from hyperface_jax.pairwise.blockwise import default_block_size
from hyperface_jax.planning.cost import step_cost
from hyperface_jax.planning.machines import KINDS, parse_devices
from hyperface_jax.planning.plans import plan_run

RESULT = Path(__file__).parents[2] / "benchmarks/results/amd-epyc-2-cores/scaling.json"


def _tile_flops(num_rows, block, dim, num_shards=1):
    """Visit all tiles on and above the diagonal; opposite shards both compute theirs."""
    tile = 2 * block * block * dim
    own, blocks = num_rows // num_shards // block, num_rows // block
    total = 0
    for a, b in product(range(blocks), repeat=2):
        if a > b:
            continue
        is_opposite = 2 * (b // own - a // own) == num_shards
        total += tile * (2 if is_opposite else 1) + tile * (1 if a == b else 2)
    return total


@pytest.mark.parametrize("num_devices", [1, 2, 3, 4, 7, 8])
def test_full_flops_are_those_of_the_tiles(num_devices):
    cost = step_cost(3072 * num_devices, 16, parse_devices(f"v5e:{num_devices}"))
    assert cost.rows == 3072
    total = _tile_flops(3072 * num_devices, default_block_size(3072), 16, num_devices)
    assert cost.flops == pytest.approx(total / num_devices)


def test_large_problems_cost_three_n_squared_d():
    n, d = 2**20, 512
    for num_devices, extra in ((255, 0), (256, n**2 * d / 256**2)):
        cost = step_cost(n, d, parse_devices(f"v5e:{num_devices}"))
        rows = cost.rows * num_devices
        expected = 3 * rows**2 * d / num_devices + extra
        assert cost.flops == pytest.approx(expected, rel=1e-3)
    half = n * 4 * (2 * d + 3) / 2
    assert step_cost(n, d, parse_devices("v5e:256")).sent_bytes == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_block_flops_are_those_of_the_tiles(num_devices):
    cost = step_cost(
        16_384,
        16,
        parse_devices(f"v5e:{num_devices}"),
        method="stochastic",
        batch_size=1024,
        num_groups=4,
    )
    assert cost.flops == 16 / num_devices * _tile_flops(1024, 512, 16)


def test_tiles_of_a_gpu_are_large_and_go_through_memory():
    cost = step_cost(32_768, 512, KINDS["h200"], precision="bf16")
    assert cost.flops == _tile_flops(32_768, 8192, 512)
    num_scores = 10 * 8192**2  # the tiles on and above the diagonal of four blocks
    # A tile on the diagonal serves one side, so it counts for two thirds of one.
    counted = (6 + 4 * 2 / 3) * 8192**2
    assert num_scores > counted == pytest.approx(cost.flops / (6 * 512))
    assert cost.tile_seconds == pytest.approx(22 * counted / 4.8e12)
    assert cost.seconds == pytest.approx(cost.compute_seconds + cost.tile_seconds)
    assert step_cost(32_768, 512, KINDS["v5e"], precision="bf16").tile_seconds == 0


def test_a_million_on_one_gpu_takes_less_than_half_an_hour():
    """Forty float32 steps alone would take longer than the whole run."""
    plan = plan_run(10**6, 512, KINDS["h200"])
    assert (plan.coarse_steps, plan.precision) == (160, "bf16_x3")
    assert plan.seconds < 25 * 60
    exact = step_cost(10**6, 512, KINDS["h200"])
    assert 40 * exact.seconds > plan.seconds
    assert plan.measurement_seconds < exact.seconds


def test_dense_blocks_compute_tiles_for_both_sides():
    cost = step_cost(8192, 64, KINDS["v5e"], method="stochastic", batch_size=512, num_groups=1)
    assert cost.flops == 4 * 8192 * 512 * 64


METHODS = {"annealed": Annealed(), "stochastic": MiniBatch()}
COMPILED = [
    ("annealed", 2, 0),
    ("annealed", 4, 4096),
    ("annealed", 2, 65_536),
    ("stochastic", 2, 4096),
    ("stochastic", 4, 0),
]


@pytest.mark.fully_optimized
@pytest.mark.parametrize(("method", "num_devices", "num_gallery"), COMPILED)
def test_memory_is_that_of_the_compiled_step(method, num_devices, num_gallery):
    mesh = meshes.make_mesh(jax.devices()[:num_devices])
    problem = PackingProblem(num_points=16_384, dim=96)
    if num_gallery:
        faces = jax.ShapeDtypeStruct((num_gallery, 96), "float32", sharding=meshes.rows(mesh))
        object.__setattr__(problem, "gallery", faces)
    found = Loop.of(METHODS[method], problem, Sweep(mesh)).lower(problem, 2).compile()
    found = found.memory_analysis()
    machine = parse_devices(f"cpu:{num_devices}")
    memory = step_cost(16_384, 96, machine, method=method, num_gallery=num_gallery).memory
    faces_bytes = 4 * 96 * num_gallery / num_devices
    assert memory.state + faces_bytes == pytest.approx(found.argument_size_in_bytes, rel=0.01)
    held = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert held / 1.3 < memory.total < held * 1.3


@pytest.mark.parametrize("method", ["annealed", "stochastic"])
@pytest.mark.parametrize(("n", "d"), [(300_000, 64), (1_000_000, 512), (10_000_000, 512)])
@pytest.mark.parametrize("kind", ["v5e", "h100"])
def test_more_devices_never_need_more_memory_each(method, n, d, kind):
    counts = [2**i for i in range(9)]
    totals = [
        step_cost(n, d, parse_devices(f"{kind}:{count}"), method=method).memory.total
        for count in counts
    ]
    assert totals == sorted(totals, reverse=True)


def test_seconds_fall_with_precision_and_devices():
    slow = step_cost(10**6, 512, parse_devices("v5e:64"))
    coarse = step_cost(10**6, 512, parse_devices("v5e:64"), precision="bf16")
    many = step_cost(10**6, 512, parse_devices("v5e:128"))
    assert slow.compute_seconds == pytest.approx(6 * coarse.compute_seconds)
    assert coarse.seconds < slow.seconds
    assert many.seconds == pytest.approx(slow.seconds / 2, rel=0.05)
    assert slow.bottleneck == "compute"


def test_a_plan_takes_all_pairs_where_they_take_less_than_a_day():
    short = plan_run(10**6, 512, parse_devices("v5e:256"))
    assert (short.method, short.num_steps) == ("annealed", 200)
    assert short.checkpoint_bytes == pytest.approx(3 * 4 * 2**20 * 512, rel=0.01)
    long = plan_run(10**8, 512, parse_devices("v5p:64"))
    assert long.method == "stochastic"
    assert long.seconds < 24 * 3600 * 1.1
    assert long.block_size == long.batch_size == 4096
    exact = plan_run(10**6, 512, parse_devices("v5e:256"), coarse_steps=0)
    assert (short.coarse_steps, short.precision) == (160, "bf16_x3")
    assert short.seconds < 0.5 * exact.seconds
    cpu = plan_run(10**4, 512, parse_devices("cpu"))
    assert (cpu.coarse_steps, cpu.precision) == (0, "float32")


def test_too_large_says_how_many_devices_would_do():
    with pytest.raises(InputError, match=r"use v5e:\d+$") as error:
        plan_run(10**8, 512, parse_devices("v5e:8"), method="annealed")
    enough = int(str(error.value).rpartition(":")[2])
    plan_run(10**8, 512, parse_devices(f"v5e:{enough}"), method="annealed")
    with pytest.raises(InputError):
        plan_run(10**8, 512, parse_devices(f"v5e:{enough - 1}"), method="annealed")


def test_a_gallery_is_searched_and_fetched_from():
    machine, n, m, d = parse_devices("v5e:256"), 10**7, 10**6, 512
    flat, near = plan_run(n, d, machine), plan_run(n, d, machine, num_gallery=m)
    assert (flat.num_searches, flat.search_seconds, flat.step.memory.gallery) == (0, 0, 0)
    assert (near.method, near.num_searches) == ("annealed", 20)
    peak = machine.flops_per_second
    work = 2 * n * m * d / 256
    expected = 16 * work / peak("bf16") + 4 * work / peak("bf16_x3")
    assert near.search_seconds == pytest.approx(expected, rel=0.15)
    assert near.step.seconds > flat.step.seconds
    assert near.step.sent_bytes - flat.step.sent_bytes == pytest.approx(4 * m * d, rel=0.1)
    assert near.seconds > flat.seconds + near.search_seconds
    alone = step_cost(10**5, d, KINDS["h200"], num_gallery=m).memory
    assert alone.gallery == 4 * d * (m + 10**5)
    with pytest.raises(InputError, match="use v5e:"):
        plan_run(10**5, d, parse_devices("v5e:1"), num_gallery=10**7)


@pytest.mark.parametrize("text", ["tpu:4", "v5e:0", "v5e:-1", "v5e:x", "v5e:", ":4", ""])
def test_devices_that_are_none(text):
    with pytest.raises(InputError, match="devices"):
        parse_devices(text)


def test_unknown_kinds_are_listed():
    with pytest.raises(InputError, match="v5e, v5p, v6e, a100, h100, h200, b200, cpu"):
        parse_devices("tpu:4")


def test_the_cpu_entry_is_the_measured_one():
    fit = json.loads(RESULT.read_text())["fit"]
    machine = KINDS["cpu"]
    assert machine.flops_per_second() == pytest.approx(fit["flops_per_second"], rel=0.01)
    for name in ("peak_flops", "memory_bandwidth", "memory_bytes"):
        assert getattr(machine, name) == pytest.approx(fit[name], rel=0.01)

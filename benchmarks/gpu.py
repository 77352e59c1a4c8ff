"""Everything to be measured on a GPU, in one command of at most ten minutes.

    python -m benchmarks.gpu [--parts PART ...] [--minutes 10] [--toy] [--out FILE.json]

The JSON is written after every part, and the same command goes on with the parts that are missing. A
part that fails leaves its error there, and the others run. ``--toy`` runs all parts in small, also on a
CPU, and writes only to ``--out``.

parity    every implementation and precision of a sweep against float32 blocks
rate      value and force, of ``3 n^2 d`` FLOPs, against the device's own product in the same precision
target    wall time of a packing to a max cosine, compilation apart
mid       one packing of 50,000 identities
large     a million identities: seconds of a step, and as many steps as the time allows
training  images a second of a training step, and of the same step in PyTorch
drawing   images a second of a UNet and a decoder of Arc2Face's shapes, with random weights
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.common import about, result_path, seconds, spread
from hyperface_jax import sphere
from hyperface_jax.io.files import atomic_write_json, plain_json, read_json
from hyperface_jax.packing import Annealed, Loop, PackingProblem, Progress, SoftMax, solve
from hyperface_jax.packing.products import coarse_sweep, fine_sweep
from hyperface_jax.pairwise import Implementation, Precision, Sweep, nearest
from hyperface_jax.pairwise.precision import scores

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16_x3", "tf32", "bf16")
Row = dict[str, Any]
_KEY = jax.random.key(0)


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts."""

    parity: tuple[tuple[int, int], ...] = ((1000, 64), (10_007, 512))
    rates: tuple[int, ...] = (10_000, 65_536, 262_144)
    most_in_kernel: int = 65_536
    product: int = 16_384
    dim: int = 512
    target: tuple[int, int, float] = (10_000, 400, 0.0535)
    mid: tuple[int, int] = (50_000, 200)
    large: int = 1_000_000
    large_steps: int = 200
    training: tuple[str, int, int] = ("iresnet50", 112, 256)
    drawing: tuple[int, int, tuple[int, ...]] = (64, 16, (320, 640, 1280, 1280))
    """Side of the latents, images of a batch, channels of the UNet."""
    drawing_steps: int = 25


TOY = Sizes(
    parity=((300, 8),),
    rates=(600,),
    most_in_kernel=600,
    product=256,
    dim=16,
    target=(60, 12, 0.9),
    mid=(80, 6),
    large=120,
    large_steps=5,
    training=("iresnet_nano", 32, 2),
    drawing=(8, 1, (32, 64)),
    drawing_steps=2,
)
SHARES = {
    "parity": 0.1,
    "rate": 0.15,
    "target": 0.05,
    "mid": 0.1,
    "training": 0.2,
    "drawing": 0.1,
    "large": 0.3,
}
"""Parts in the order in which they run, and their shares of the time."""
_LAST = list(SHARES)[-1]


def main() -> None:
    """Run the missing parts and write the JSON after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--toy", action="store_true", help="small sizes, on any device")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # JAX would take most of the memory at once, and PyTorch needs some of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.default_backend() != "gpu" and not options.toy:
        raise SystemExit("no GPU here: add --toy and --out to try all parts in small")
    if options.toy and not options.out:
        raise SystemExit("--toy needs --out: its figures are no results")
    path = options.out or result_path("gpu")
    measure(path, TOY if options.toy else Sizes(), options.parts, 60 * options.minutes)


def measure(path: Path, sizes: Sizes, parts: list[str], all_seconds: float) -> Row:
    """Run the parts that a file does not hold yet, while there is time, and return its contents."""
    start = time.monotonic()
    figures = _found(path, sizes)
    for name in SHARES:
        share = SHARES[name] * all_seconds
        left = all_seconds - (time.monotonic() - start)
        if name not in parts or name in figures["parts"]:
            continue
        if left <= share / 2:
            print(f"{name}: no time left; the same command goes on with it", flush=True)
            continue
        most_seconds = left if name == _LAST else min(share, left)
        figures["parts"][name] = _attempted(name, sizes, most_seconds)
        atomic_write_json(path, {**figures, "about": about(0)})
    return figures


def _found(path: Path, sizes: Sizes) -> Row:
    """Return the parts of an earlier call of the same commit and sizes that did not fail."""
    plain = plain_json(asdict(sizes))
    if path.exists():
        found = read_json(path)
        if found["sizes"] == plain and found["about"]["commit"] == about(0)["commit"]:
            done = {name: part for name, part in found["parts"].items() if "error" not in part}
            return {"sizes": plain, "parts": done}
    return {"sizes": plain, "parts": {}}


def _attempted(name: str, sizes: Sizes, most_seconds: float) -> Row:
    start = time.monotonic()
    part = _tried(lambda: {"rows": PARTS[name](sizes, most_seconds)})
    part["seconds"] = time.monotonic() - start
    print(name, *part.get("rows", [part]), sep="\n  ", flush=True)
    return part


def _tried(measured: Callable[[], Row]) -> Row:
    """Return what was measured, or why it could not be: the other figures are worth having."""
    try:
        return measured()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _parity(sizes: Sizes, most_seconds: float) -> list[Row]:
    del most_seconds
    rows = []
    for n, d in sizes.parity:
        x = sphere.sample_uniform(_KEY, n, d)
        exact, neighbors = _evaluated(Sweep(implementation="blockwise"))(x)
        for implementation in ("reference", "blockwise", "pallas"):
            for precision in PRECISIONS:
                sweep = Sweep(implementation=implementation, precision=precision)
                row = {"n": n, "d": d, "implementation": implementation, "precision": precision}
                compare = partial(_compared, sweep, x, exact, neighbors)
                rows.append({**row, **_tried(compare)})
    return rows


def _compared(sweep: Sweep, x: Any, exact: Any, neighbors: Any) -> Row:
    found, columns = _evaluated(sweep)(x)
    force_error = jnp.linalg.norm(found.force - exact.force) / jnp.linalg.norm(exact.force)
    return {
        "force_error": float(force_error),
        "value_error": abs(float(found.value - exact.value)),
        "max_cosine_error": float(jnp.max(jnp.abs(found.row_max - exact.row_max))),
        "same_neighbor": float(jnp.mean(columns == neighbors)),
    }


def _evaluated(sweep: Sweep) -> Callable[[Any], Any]:
    return jax.jit(lambda x: (_force(sweep, x), sweep(x, reduction=nearest()).column))


def _force(sweep: Sweep, x: Any) -> Any:
    return SoftMax(100.0).evaluate(x, shift=0.3, sweep=sweep)


def _rate(sizes: Sizes, most_seconds: float) -> list[Row]:
    end = time.monotonic() + most_seconds
    plain = {precision: _product_rate(sizes, precision) for precision in PRECISIONS}
    rows = []
    for n in sizes.rates:
        x = sphere.sample_uniform(_KEY, n, sizes.dim)
        for implementation in ("blockwise", "pallas"):
            if implementation == "pallas" and n > sizes.most_in_kernel:
                continue
            for precision in PRECISIONS:
                if time.monotonic() > end:
                    return rows
                row = {"n": n, "d": sizes.dim, "implementation": implementation}
                timed = partial(_timed_sweep, x, implementation, precision, plain[precision])
                rows.append({**row, "precision": precision, **_tried(timed)})
    return rows


def _timed_sweep(x: Any, implementation: Implementation, precision: Precision, plain: float) -> Row:
    sweep = Sweep(implementation=implementation, precision=precision)
    force = jax.jit(partial(_force, sweep))
    taken = spread(seconds(force, x, runs=3))
    rate = 3.0 * x.shape[0] ** 2 * x.shape[1] / taken["median"]
    return {
        "seconds": taken,
        "tflops": rate / 1e12,
        "product_tflops": plain / 1e12,
        "share_of_product_rate": rate / plain,
    }


def _product_rate(sizes: Sizes, precision: Precision) -> float:
    """Return the FLOP/s of a plain product of two square matrices."""
    side = sizes.product
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    a = sphere.sample_uniform(_KEY, side, side).astype(dtype)
    product = jax.jit(lambda a: scores(a, a, precision))
    return 2.0 * side**3 / spread(seconds(product, a, runs=3))["median"]


def _target(sizes: Sizes, most_seconds: float) -> list[Row]:
    del most_seconds
    n, steps, target = sizes.target
    chosen = Annealed(num_steps=steps)
    fine = replace(chosen, coarse_steps=0)
    methods = chosen, fine, replace(fine, precision="float32")
    return [_timed_run(n, sizes.dim, method, target) for method in methods]


def _mid(sizes: Sizes, most_seconds: float) -> list[Row]:
    del most_seconds
    n, steps = sizes.mid
    return [_timed_run(n, sizes.dim, Annealed(num_steps=steps), 0.0)]


def _timed_run(n: int, d: int, method: Annealed, target: float) -> Row:
    """Time a run the second time that it is made, when all of it is compiled."""
    problem = PackingProblem(num_points=n, dim=d)
    solve(problem, jax.random.key(1), method=method)
    trace: list[tuple[float, float]] = []
    start = time.perf_counter()

    def note(progress: Progress) -> None:
        trace.append((time.perf_counter() - start, progress.max_cosine))

    packing = solve(problem, _KEY, method=method, callback=note)
    resolved = Loop.of(method, problem).method
    return {
        "n": n,
        "d": d,
        "steps": resolved.steps,
        "coarse_steps": resolved.coarse_steps,
        "precision": resolved.precision,
        "seconds": time.perf_counter() - start,
        "target": target,
        "seconds_to_target": min((at for at, cosine in trace if cosine <= target), default=None),
        "max_cosine": packing.max_cosine,
        "lower_bound": packing.lower_bound.value,
    }


def _large(sizes: Sizes, most_seconds: float) -> list[Row]:
    """Time both kinds of steps, then pack with as many as the rest of the time allows."""
    begun = time.monotonic()
    problem = PackingProblem(num_points=sizes.large, dim=sizes.dim)
    loop = Loop.of(Annealed(num_steps=sizes.large_steps), problem)
    x = sphere.sample_uniform(_KEY, sizes.large, sizes.dim)
    took = {}
    for kind in (coarse_sweep, fine_sweep):
        force = jax.jit(partial(_force, kind(loop.method, loop.sweep)))
        took[kind.__name__.removesuffix("_sweep")] = min(seconds(force, x, runs=1))
    del x
    row = {"n": sizes.large, "d": sizes.dim, "precision": loop.method.precision}
    coarse, fine = took["coarse"], took["fine"]
    share = loop.method.num_coarse / sizes.large_steps
    a_step = share * coarse + (1 - share) * fine
    row |= {"coarse_seconds": coarse, "fine_seconds": fine}
    row |= {"all_steps": sizes.large_steps, "all_seconds": sizes.large_steps * a_step}
    # Ten steps' time is left to compile, and to measure the start and the result in float32.
    steps = int((most_seconds - (time.monotonic() - begun)) / a_step - 10)
    if steps < 5:
        return [row]
    steps = min(steps, sizes.large_steps)
    start = time.perf_counter()
    packing = solve(problem, _KEY, method=replace(Annealed(), num_steps=steps))
    row |= {"steps": steps, "seconds": time.perf_counter() - start}
    return [{**row, "max_cosine": packing.max_cosine, "lower_bound": packing.lower_bound.value}]


def _training(sizes: Sizes, most_seconds: float) -> list[Row]:
    from benchmarks.training import measure as timed

    del most_seconds
    return [timed(*sizes.training, is_mixed=True)]


def _drawing(sizes: Sizes, most_seconds: float) -> list[Row]:
    """Denoise with guidance, as Arc2Face does: two passes of the UNet a step, then the decoder."""
    import torch

    del most_seconds
    side, batch, channels = sizes.drawing
    is_cuda = torch.cuda.is_available()
    device, dtype = ("cuda", torch.float16) if is_cuda else ("cpu", torch.float32)
    with torch.device(device):
        unet, decoder = _arc2face(side, channels)
    layout: Any = torch.channels_last
    unet = unet.to(dtype=dtype, memory_format=layout).eval()
    decoder = decoder.to(dtype=dtype, memory_format=layout).eval()
    prompt = torch.randn(2 * batch, 77, unet.config.cross_attention_dim).to(device, dtype)
    latents = torch.randn(batch, 4, side, side).to(device, dtype)

    def draw() -> Any:
        noise = latents
        with torch.inference_mode():
            for step in range(sizes.drawing_steps):
                both = unet(torch.cat([noise] * 2), step, prompt).sample
                without, within = both.chunk(2)
                noise = noise - (without + 3.0 * (within - without)) / sizes.drawing_steps
            return decoder.decode(noise).sample.float().cpu()

    draw()
    start = time.perf_counter()
    image = draw()
    taken = time.perf_counter() - start
    return [
        {
            "parameters": sum(p.numel() for p in unet.parameters()),
            "pixels": image.shape[-1],
            "batch": batch,
            "steps": sizes.drawing_steps,
            "dtype": str(dtype),
            "images_per_second": batch / taken,
        }
    ]


def _arc2face(side: int, channels: tuple[int, ...]) -> tuple[Any, Any]:
    """Return a random UNet and autoencoder; four levels are those of Stable Diffusion 1.5."""
    diffusers: Any = importlib.import_module("diffusers")
    levels, is_tiny = len(channels), len(channels) < 4
    unet = diffusers.UNet2DConditionModel(
        sample_size=side,
        in_channels=4,
        out_channels=4,
        layers_per_block=1 if is_tiny else 2,
        block_out_channels=channels,
        norm_num_groups=8 if is_tiny else 32,
        down_block_types=(*("CrossAttnDownBlock2D",) * (levels - 1), "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (levels - 1)),
        cross_attention_dim=64 if is_tiny else 768,
        attention_head_dim=8,
    )
    widths = (16, 16) if is_tiny else (128, 256, 512, 512)
    decoder = diffusers.AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1 if is_tiny else 2,
        latent_channels=4,
        norm_num_groups=8 if is_tiny else 32,
        sample_size=side * 2 ** (len(widths) - 1),
    )
    return unet, decoder


PARTS: dict[str, Callable[[Sizes, float], list[Row]]] = {
    "parity": _parity,
    "rate": _rate,
    "target": _target,
    "mid": _mid,
    "training": _training,
    "drawing": _drawing,
    "large": _large,
}


if __name__ == "__main__":
    main()

"""Training steps of a recognizer against the same network, loss and optimizer in PyTorch.

    python -m benchmarks.training

Both take turns, step by step, on this machine; compilation and warm-up are not timed. On a GPU
``benchmarks.gpu`` does the same with bfloat16 convolutions: mixed precision, and PyTorch compiled.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import write_result
from benchmarks.rivals.torch_iresnet import Adaface
from hyperface_jax.recognition.backbones import BACKBONES, BackboneConfig
from hyperface_jax.recognition.recipes import Recipe
from hyperface_jax.recognition.train import Trainer

SHAPES = (("iresnet_tiny", 32, 64), ("iresnet18", 112, 8), ("iresnet50", 112, 8))
NUM_CLASSES, SCALE, MARGIN = 1000, 64.0, 0.4
ROUNDS = 7


def main() -> None:
    """Time all shapes and write the JSON."""
    rows = [measure(*shape) for shape in SHAPES]
    write_result("training", {"rows": rows, "head": "cosface", "precision": "float32"})


def measure(
    name: str, image_size: int, batch_size: int, *, is_mixed: bool = False
) -> dict[str, Any]:
    """Time one shape, in float32 or with bfloat16 convolutions; the two take turns."""
    config = replace(BACKBONES[name], image_size=image_size)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch_size, image_size, image_size, 3)).astype(np.uint8)
    labels = rng.integers(0, NUM_CLASSES, batch_size).astype(np.int32)
    steps = (
        jax_step(config, images, labels, is_mixed=is_mixed),
        torch_step(config, images, labels, is_mixed=is_mixed),
    )
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for step, seconds in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    ours, theirs = (batch_size / statistics.median(seconds[1:]) for seconds in times)
    row = {
        "network": name,
        "image_size": image_size,
        "batch_size": batch_size,
        "precision": "bfloat16" if is_mixed else "float32",
        "jax_images_per_second": ours,
        "torch_images_per_second": theirs,
        "ratio": ours / theirs,
    }
    print(row, flush=True)
    return row


def jax_step(
    config: BackboneConfig, images: Any, labels: Any, *, is_mixed: bool = False
) -> Callable[[], None]:
    """Return a step of this package."""
    recipe = Recipe(head="cosface", batch_size=len(labels), learning_rate=1e-3)
    dtype = jnp.bfloat16 if is_mixed else jnp.float32
    trainer = Trainer(config, recipe, NUM_CLASSES, 100, dtype=dtype)
    state = [trainer.init(jax.random.key(0))]
    batch = trainer.put((images, labels))

    def step() -> None:
        state[0], metrics = trainer.step(state[0], *batch)
        jax.block_until_ready(metrics)

    step()
    return step


def torch_step(
    config: BackboneConfig, images: Any, labels: Any, *, is_mixed: bool = False
) -> Callable[[], None]:
    """Return the same step in PyTorch, images and weights with the channels last; compiled on a GPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = Adaface(config.depths, config.widths, config.map_size, dropout=config.dropout)
    channels_last: Any = torch.channels_last
    network: Any = network.to(device, memory_format=channels_last)  # pyright: ignore[reportCallIssue]
    classes = torch.nn.Parameter(0.01 * torch.randn(NUM_CLASSES, config.embedding_dim).to(device))
    forward = torch.compile(network) if device == "cuda" else network
    parameters = [*network.parameters(), classes]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)
    pixels = torch.tensor(images).permute(0, 3, 1, 2).to(device)
    target = torch.tensor(labels, dtype=torch.long).to(device)

    def step() -> None:
        inputs = ((pixels.float() / 255 - 0.5) / 0.5).contiguous(memory_format=channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
            embeddings = forward(inputs)
        cosine = functional.normalize(embeddings.float()) @ functional.normalize(classes).T
        logits = SCALE * (cosine - MARGIN * functional.one_hot(target, NUM_CLASSES))
        optimizer.zero_grad()
        functional.cross_entropy(logits, target).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    step()
    return step


if __name__ == "__main__":
    main()

"""The work of ``hyperface synthesize``: shard after shard, then what only a whole data set has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from hyperface_jax.cli.loop import INTERRUPTED
from hyperface_jax.cli.progress import ImageProgress
from hyperface_jax.cli.synthesis_parts import Parts, open_parts
from hyperface_jax.cli.synthesis_results import all_flat, write_results
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npz, one_line, os_input_error
from hyperface_jax.io.images import encode
from hyperface_jax.synthesis.faults import sketch
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS
from hyperface_jax.synthesis.manifest import Figures
from hyperface_jax.synthesis.rendering import Rendered, Renderer, render
from hyperface_jax.synthesis.shards import DataSet, ShardPlan, Worker, rank_and_world, shard_name
from hyperface_jax.synthesis.writer import ShardCounts, ShardWriter, run_shards

if TYPE_CHECKING:
    from hyperface_jax.cli.synthesize import Synthesize

_THREADS = 4
_ENOUGH = 32
"""Images of one color, and no other, that end a run."""
_BYTES_A_PIXEL = {"png": 1.5, "jpg": 0.6, "webp": 0.5}
"""Guesses, for the check of the disc before the first shard is there to measure."""


def synthesize(config: Synthesize) -> int:
    """Draw the shards that are this worker's, and finish the data set if it is whole.

    Returns:
        The exit code.
    """
    worker = rank_and_world(os.environ)
    _show_own_gpu(worker)
    parts = open_parts(config)
    data_set = make_data_set(config, parts)
    data_set.claim()
    try:
        with Work(config, parts, data_set, worker) as work:
            counts = run_shards(
                data_set,
                data_set.plan.order(*worker),
                work.write_shard,
                bytes_per_image=_guess_size(config, parts),
            )
    except KeyboardInterrupt:
        print(
            f"stopped; every finished shard is kept in {one_line(config.out)}: run the same command to "
            "go on"
        )
        return INTERRUPTED
    if not write_results(config, parts, data_set):
        print(_waiting(counts, config.out))
    return 0


def _show_own_gpu(worker: Worker) -> None:
    """Let each worker of a torchrun machine see its GPU alone, before torch looks for them."""
    local = os.environ.get("LOCAL_RANK")
    if worker.world > 1 and local is not None and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = local


def make_data_set(config: Synthesize, parts: Parts) -> DataSet:
    """Return the data set that the settings ask for."""
    num_ids = config.num_ids or parts.embeddings.num_points
    recognizer = parts.recognizer
    settings = {
        "generator": parts.generator.name,
        "generator_sha256": parts.generator.digest,
        "embeddings_sha256": parts.embeddings.sha256,
        "recognizer_sha256": recognizer.digest if recognizer else None,
        "recognizer_color": recognizer.color if recognizer else None,
        "seed": config.seed,
        "beta": config.beta,
        "min_cosine": config.min_cosine,
        "cap_share": config.variation().cap_share,
        "image_format": config.image_format,
        "quality": None if config.image_format == "png" else config.quality,
        "crop": parts.crop_name,
        "face_size": config.face_size if parts.crop else parts.generator.image_size,
        "min_target_cosine": config.min_target_cosine,
        "max_attempts": config.max_attempts,
    }
    plan = ShardPlan(
        num_ids=num_ids, images_per_id=config.images_per_id, shard_size=config.shard_size
    )
    return DataSet(
        path=config.out,
        plan=plan,
        settings=settings,
        format=config.format,
        has_originals=config.originals,
    )


def _guess_size(config: Synthesize, parts: Parts) -> float:
    sides = [config.face_size if parts.crop else parts.generator.image_size]
    if config.originals:
        sides.append(parts.generator.image_size)
    return _BYTES_A_PIXEL[config.image_format] * sum(side**2 for side in sides)


def _waiting(counts: ShardCounts, out: Path) -> str:
    return (
        f"{counts.num_written} shards written; {counts.num_held} are with other workers, the last of "
        f"which completes {one_line(out)}"
    )


class _Encoded(NamedTuple):
    rendered: Rendered
    image: Future[bytes] | None
    original: Future[bytes] | None
    sketch: bytes | None = None


@dataclass
class Work:
    """Draws and writes shards; while one batch is drawn, the one before is encoded and written."""

    config: Synthesize
    parts: Parts
    data_set: DataSet
    worker: Worker
    _num_done: int = field(default=0, init=False)
    _num_flat: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        config, parts = self.config, self.parts
        self._renderer = Renderer(
            generator=parts.generator,
            key=jax.random.key(config.seed),
            variation=config.variation(),
            crop=parts.crop,
            embed=parts.embed,
            min_target_cosine=config.min_target_cosine,
            max_attempts=config.max_attempts,
        )
        self._encode = partial(encode, kind=_KINDS[config.image_format], quality=config.quality)

    def __enter__(self) -> Work:
        self._pool, self._in_order = ThreadPoolExecutor(_THREADS), ThreadPoolExecutor(1)
        self._progress = ImageProgress(
            "drawing faces", self._num_left(), is_silent=self.config.silent
        )
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)
        self._in_order.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def _num_left(self) -> int:
        """Images of this worker's own shards that are not finished; it may take over others' too."""
        plan = self.data_set.plan
        shards = plan.shards_of(*self.worker)
        return sum(plan.num_images_of(s) for s in shards if not self.data_set.is_finished(s))

    def write_shard(self, writer: ShardWriter) -> None:
        """Draw and add the images of a shard, in order."""
        looked_at: list[Rendered] = []
        written: Future[None] | None = None
        for batch in self._batches(writer):
            encoded = [self._submit(image) for image in batch]
            if written is not None:
                written.result()
            written = self._in_order.submit(self._add, writer, encoded)
            looked_at += [
                image._replace(original=_NOTHING, face=None) for image in batch if image.is_kept
            ]
            self._report(batch)
        if written is not None:
            written.result()
        if self.parts.recognizer is not None:
            self._save_embeddings(writer.shard, looked_at)

    def _batches(self, writer: ShardWriter) -> Iterator[list[Rendered]]:
        ids, samples = writer.images
        points = self.parts.embeddings.points
        for start in range(0, len(ids), self.config.batch_size):
            rows = slice(start, start + self.config.batch_size)
            yield render(self._renderer, points[ids[rows]], ids[rows], samples[rows])

    def _submit(self, image: Rendered) -> _Encoded:
        if not image.is_kept or image.face is None:
            return _Encoded(image._replace(original=_NOTHING), None, None)
        face = self._pool.submit(self._encode, image.face)
        original = (
            self._pool.submit(self._encode, image.original) if self.config.originals else None
        )
        return _Encoded(image, face, original, sketch(image.face))

    def _add(self, writer: ShardWriter, images: list[_Encoded]) -> None:
        for image in images:
            which = {"identity": image.rendered.identity, "sample": image.rendered.sample}
            figures = Figures(
                self.config.seed,
                image.rendered.attempt,
                image.rendered.condition_cosine,
                image.rendered.target_cosine,
                image.rendered.is_flat,
                image.sketch,
            )
            if image.image is None:
                writer.reject(**which, figures=figures)
                continue
            original = None if image.original is None else image.original.result()
            writer.add(
                **which,
                image=image.image.result(),
                suffix=self.config.image_format,
                figures=figures,
                original=original,
            )

    def _report(self, batch: list[Rendered]) -> None:
        self._num_done += len(batch)
        self._num_flat += sum(image.is_flat for image in batch)
        if self._num_flat == self._num_done >= _ENOUGH:
            raise InputError(all_flat(self.parts.generator.name, self._num_flat))
        cosines = [image.target_cosine for image in batch if image.target_cosine is not None]
        figure = f"cosine to target {np.mean(cosines):.3f}" if cosines else ""
        self._progress.update(self._num_done, figure)

    def _save_embeddings(self, shard: int, images: list[Rendered]) -> None:
        folder = self.config.out / FACE_EMBEDDINGS
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise os_input_error(folder, "cannot write", error) from error
        dim = self.parts.embeddings.dim
        rows = [image.embedding for image in images if image.embedding is not None]
        atomic_save_npz(
            folder / f"{shard_name(shard)}.npz",
            embeddings=np.array(rows, np.float32).reshape(-1, dim),
            identities=np.array([image.identity for image in images], np.int64),
            samples=np.array([image.sample for image in images], np.int32),
        )


_KINDS = {"png": "png", "jpg": "jpeg", "webp": "webp"}
_NOTHING = np.zeros((0, 0, 3), np.uint8)

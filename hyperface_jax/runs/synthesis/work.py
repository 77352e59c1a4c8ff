"""The work on one shard: drawing batches, encoding the images, and writing them in order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_save_npz, writing
from hyperface_jax.io.images import encode
from hyperface_jax.runs.synthesis.results import all_flat
from hyperface_jax.synthesis.faults import sketch
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS
from hyperface_jax.synthesis.manifest import ImageFigures
from hyperface_jax.synthesis.negatives import Negatives
from hyperface_jax.synthesis.rendering import Rendered, Renderer, render
from hyperface_jax.synthesis.shards import shard_name

if TYPE_CHECKING:
    from hyperface_jax.runs.synthesis.parts import Parts
    from hyperface_jax.runs.synthesis.settings import Synthesize
    from hyperface_jax.synthesis.writer import ShardWriter
    from hyperface_jax.typing import Update

_THREADS = 4
_ENOUGH = 32
"""The run ends if the first images, this many or more, are all of a single color."""
_KINDS = {"png": "png", "jpg": "jpeg", "webp": "webp"}
_NOTHING = np.zeros((0, 0, 3), np.uint8)


class _Encoded(NamedTuple):
    rendered: Rendered
    image: Future[bytes] | None
    original: Future[bytes] | None
    sketch: bytes | None = None


@dataclass
class Work:
    """Draws and writes shards; while one batch is drawn, the previous one is encoded and written.

    Args:
        config: the settings.
        parts: the parts that the images are drawn with.
        update: called with the number of images drawn so far.
        neighbors: number of the nearest other identity of each, ``[num_ids]``; None if faces are not
            led away from it.
    """

    config: Synthesize
    parts: Parts
    update: Update
    neighbors: np.ndarray | None = None
    _num_done: int = field(default=0, init=False)
    _num_flat: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        config, parts = self.config, self.parts
        self._renderer = Renderer(
            generator=parts.generator,
            key=jax.random.key(config.seed),
            variation=parts.variation,
            crop=parts.crop,
            embed=parts.embed,
            min_target_cosine=config.min_target_cosine,
            max_attempts=config.max_attempts,
        )
        self._encode = partial(encode, kind=_KINDS[config.image_format], quality=config.quality)

    def __enter__(self) -> Work:
        self._pool, self._in_order = ThreadPoolExecutor(_THREADS), ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error: Any) -> None:
        self._in_order.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def write_shard(self, writer: ShardWriter) -> None:
        """Draw the images of a shard and add them in order."""
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
        points, neighbors = self.parts.embeddings.points, self.neighbors
        for start in range(0, len(ids), self.config.batch_size):
            rows = slice(start, start + self.config.batch_size)
            own, away = ids[rows], None
            if neighbors is not None:
                others = points[neighbors[own]]
                away = Negatives(conditions=others, weight=self.config.negatives)
            yield render(self._renderer, points[own], own, samples[rows], negatives=away)

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
            figures = ImageFigures(
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
        self.update(self._num_done, figure)

    def _save_embeddings(self, shard: int, images: list[Rendered]) -> None:
        folder = self.config.out / FACE_EMBEDDINGS
        with writing(folder):
            folder.mkdir(exist_ok=True)
        dim = self.parts.embeddings.dim
        rows = [image.embedding for image in images if image.embedding is not None]
        atomic_save_npz(
            folder / f"{shard_name(shard)}.npz",
            embeddings=np.array(rows, np.float32).reshape(-1, dim),
            identities=np.array([image.identity for image in images], np.int64),
            samples=np.array([image.sample for image in images], np.int32),
        )

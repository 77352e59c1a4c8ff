"""The ``synthesize`` stage itself: it writes shard after shard, then completes the data set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hyperface_jax.errors import Stopped
from hyperface_jax.io.files import one_line
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import QUIET, Watch
from hyperface_jax.runs.synthesis.neighbors import find_neighbors
from hyperface_jax.runs.synthesis.parts import Parts, open_parts
from hyperface_jax.runs.synthesis.results import write_results
from hyperface_jax.runs.synthesis.settings import RENAMED, RESPELLED, Synthesize, check_settings
from hyperface_jax.runs.synthesis.work import Work
from hyperface_jax.synthesis.shards import DataSet, ShardPlan, Worker, rank_and_world
from hyperface_jax.synthesis.writer import ShardCounts, run_shards

if TYPE_CHECKING:
    from pathlib import Path

_BYTES_A_PIXEL = {"png": 1.5, "jpg": 0.6, "webp": 0.5}
"""Guesses, used to check the free disk space before there is a first shard to measure."""


def synthesize(config: Synthesize, *, watch: Watch = QUIET) -> Result:
    """Draw face images of packed embeddings, as a data set to train on.

    Several workers may call this function at once with the same settings, see
    :func:`.synthesis.shards.rank_and_world`; the last of them completes the data set. The same call
    resumes an unfinished data set.

    Args:
        config: the settings.
        watch: receives messages and progress. Ctrl-C stops in the middle of a batch.

    Returns:
        The figures of ``summary.json`` with ``is_complete``, which is False while other workers are
        still writing shards; and the folder.

    Raises:
        InputError: a setting or a file cannot be used, or nothing can be learned from the images.
        Stopped: the run was interrupted; every finished shard is kept.
    """
    check_settings(config)
    worker = rank_and_world(os.environ)
    _show_own_gpu(worker)
    parts = open_parts(config, watch)
    data_set = make_data_set(config, parts)
    data_set.claim(renamed=RENAMED, respelled=RESPELLED)
    try:
        counts = _draw(config, parts, data_set, worker, watch)
    except KeyboardInterrupt as error:
        raise Stopped(
            config.out,
            f"stopped; every finished shard is kept in {one_line(config.out)}: run the same again to "
            "go on",
        ) from error
    return write_results(config, parts, data_set, watch) or _waiting(counts, config.out)


def _show_own_gpu(worker: Worker) -> None:
    """Let each worker of a torchrun machine see only its own GPU, before torch looks for GPUs."""
    local = os.environ.get("LOCAL_RANK")
    if worker.world > 1 and local is not None and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = local


def make_data_set(config: Synthesize, parts: Parts) -> DataSet:
    """Return the data set that the settings describe."""
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
        "cap_share": parts.variation.cap_share,
        "image_format": config.image_format,
        "quality": None if config.image_format == "png" else config.quality,
        "crop": parts.crop_name,
        "face_size": config.face_size if parts.crop else parts.generator.image_size,
        "min_target_cosine": config.min_target_cosine,
        "max_attempts": config.max_attempts,
        # None is what data sets from before this setting have.
        "negatives": config.negatives or None,
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


def _draw(
    config: Synthesize, parts: Parts, data_set: DataSet, worker: Worker, watch: Watch
) -> ShardCounts:
    """Draw the shards of this worker, then those that other workers have left."""
    plan = data_set.plan
    neighbors = find_neighbors(data_set, parts.embeddings, watch) if config.negatives else None
    left = [s for s in plan.shards_of(*worker) if not data_set.is_finished(s)]
    total = sum(map(plan.num_images_of, left))
    with (
        watch.progress("drawing faces", "images", total) as update,
        Work(config, parts, update, neighbors) as work,
    ):
        return run_shards(
            data_set,
            plan.order(*worker),
            work.write_shard,
            bytes_per_image=_guess_size(config, parts),
        )


def _guess_size(config: Synthesize, parts: Parts) -> float:
    sides = [config.face_size if parts.crop else parts.generator.image_size]
    if config.originals:
        sides.append(parts.generator.image_size)
    return _BYTES_A_PIXEL[config.image_format] * sum(side**2 for side in sides)


def _waiting(counts: ShardCounts, out: Path) -> Result:
    text = (
        f"{counts.num_written} shards written; {counts.num_held} are with other workers, the last of "
        f"which completes {one_line(out)}"
    )
    return Result(out, {"is_complete": False, **counts._asdict()}, text)

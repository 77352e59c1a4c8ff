"""Packing through a generator: rounds of packing, drawing and learning, on disk and resumable.

start/            a packing without the generator, by the other settings
round-0/, ...     conditions.npy, and faces/, a data set drawn from them; round 0 also holds candidates
embeddings.npy, summary.json, report.html    the result, as for any packing
"""

from __future__ import annotations

import math
import time
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import sphere
from hyperface_jax.errors import Stopped
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.embeddings import write_embeddings
from hyperface_jax.io.files import atomic_write_json
from hyperface_jax.io.run_directory import RunDirectory
from hyperface_jax.packing.energies import row_max
from hyperface_jax.response import (
    Probes,
    ResponseModel,
    Selection,
    Weights,
    fit_response,
    pack_through,
    pool,
    probes_of,
    select,
)
from hyperface_jax.runs.packing.inputs import Inputs, manifold_of, read_inputs, resolved_config
from hyperface_jax.runs.packing.results import machine
from hyperface_jax.runs.packing.settings import ALPHA, FREE_TO_CHANGE, OF_GENERATOR, Pack
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.synthesis.settings import Synthesize
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS, read_face_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperface_jax.runs.support.watch import Watch

CONDITIONS, FACES, START = "conditions.npy", "faces", "start"
_RATES = (3.0, 30.0)
"""Images per second of a large diffusion generator: on one GPU as published, and distilled."""
_RADIUS = 0.15


class Round(NamedTuple):
    """A finished round: its probes, and what it measured.

    Attributes:
        probes: what was measured in it.
        figures: its figures, as plain values.
    """

    probes: Probes
    figures: dict[str, Any]


def num_images(config: Pack) -> int:
    """Return the number of images that a packing through a generator draws."""
    per_round = config.num_ids * config.probe_images
    return per_round * (1 + config.rounds) + _num_candidates(config) * config.probe_images


def cost(config: Pack) -> str:
    """Say what the images of a packing through a generator cost.

    Examples:
        >>> from pathlib import Path
        >>> config = Pack(num_ids=10_000, out=Path("run"), probe_images=2, candidates=2, rounds=2)
        >>> cost(config)  # doctest: +NORMALIZE_WHITESPACE
        'draws 100000 images: 2 of each of 20000 candidates and of 10000 identities in 3 rounds
        (9.3 hours at 3 images/s, 0.9 hours at 30 images/s)'
    """
    count = num_images(config)
    hours = [f"{count / rate / 3600:.1f} hours at {rate:g} images/s" for rate in _RATES]
    return (
        f"draws {count} images: {config.probe_images} of each of {_num_candidates(config)} candidates "
        f"and of {config.num_ids} identities in {1 + config.rounds} rounds ({', '.join(hours)})"
    )


def _num_candidates(config: Pack) -> int:
    return round(config.candidates * config.num_ids)


def pack_through_generator(
    config: Pack,
    watch: Watch,
    *,
    pack: Callable[..., Result],
    synthesize: Callable[..., Result],
) -> Result:
    """Choose identities whose drawn faces are far apart.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run.
        pack: the stage that packs without a generator.
        synthesize: the stage that draws faces.

    Returns:
        The figures of ``summary.json``, and the run directory.

    Raises:
        InputError: a setting or a file cannot be used.
        Stopped: a stop was requested; everything is saved.
    """
    inputs = read_inputs(config, watch)
    run = RunDirectory(config.out)
    try:
        run.claim(resolved_config(config, inputs), ignore=FREE_TO_CHANGE)
        if run.is_finished:
            text = f"{run.path}: already finished; nothing changed"
            return Result(run.path, run.summary(), text)
        watch.say(cost(config))
        try:
            return _Work(config, inputs, run, watch, pack, synthesize).finish()
        except Stopped as stopped:
            raise Stopped(run.path) from stopped
    finally:
        run.close()


class _Work:
    """The rounds of one run; everything that is on disk already is read instead of made again."""

    def __init__(
        self,
        config: Pack,
        inputs: Inputs,
        run: RunDirectory,
        watch: Watch,
        pack: Callable[..., Result],
        synthesize: Callable[..., Result],
    ) -> None:
        self._config, self._run, self._watch = config, run, watch
        self._pack, self._synthesize = pack, synthesize
        assert inputs.gallery is not None
        self._gallery = jnp.asarray(inputs.gallery.points)
        self._manifold = manifold_of(config, self._gallery)
        self._started = time.perf_counter()

    def finish(self) -> Result:
        """Run the rounds that are left, choose the identities and write the results."""
        start = self._start()
        rounds = [self._round(0, partial(self._with_candidates, start))]
        for number in range(1, self._config.rounds + 1):
            rounds.append(self._round(number, partial(self._next, tuple(rounds))))
        probes, _, chosen = self._best(rounds)
        return self._write(start, probes, chosen, [done.figures for done in rounds])

    def _start(self) -> np.ndarray:
        """Pack without the generator."""
        out = self._run / START
        defaults = {item.name: item.default for item in fields(Pack) if item.name in OF_GENERATOR}
        plain = replace(self._config, out=out, through=None, **defaults)
        self._pack(plain, watch=self._watch)
        return np.load(out / names.EMBEDDINGS)

    def _with_candidates(self, start: np.ndarray) -> np.ndarray:
        """Add candidates: half of them gallery rows, half on the great circles through two of them."""
        rng = np.random.default_rng(self._config.seed)
        gallery = np.asarray(self._gallery)
        total = _num_candidates(self._config)
        num_rows = min(total - total // 2, len(gallery))
        rows = gallery[rng.permutation(len(gallery))[:num_rows]]
        first, second = gallery[rng.integers(len(gallery), size=(2, total - num_rows))]
        mixed = first + rng.uniform(-0.5, 1, (len(first), 1)) * second
        mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-6)
        return np.concatenate([start, rows, mixed]).astype(np.float32)

    def _best(self, rounds: Sequence[Round]) -> tuple[Probes, ResponseModel, Selection]:
        """Learn from all rounds so far, and choose the best identities among what they drew."""
        probes = pool(done.probes for done in rounds)
        model = self._learn(probes, len(rounds))
        return probes, model, select(probes, self._config.num_ids, model=model)

    def _next(self, rounds: Sequence[Round]) -> np.ndarray:
        """Move the best identities so far by the predicted response."""
        config = self._config
        probes, model, chosen = self._best(rounds)
        centers = jnp.asarray(probes.conditions[chosen.rows])
        offset = jnp.asarray(chosen.means) - model(centers).mean
        moved = pack_through(
            model,
            centers,
            offset=offset,
            gallery=self._gallery,
            manifold=self._manifold,
            weights=Weights(alpha=ALPHA if config.alpha is None else config.alpha),
            radius=_RADIUS,
        )
        return np.asarray(moved.conditions)

    def _learn(self, probes: Probes, number: int) -> ResponseModel:
        key = jax.random.fold_in(jax.random.key(self._config.seed), number)
        steps = self._config.learning_steps
        with self._watch.progress("learning the response", "steps", steps) as update:
            return fit_response(probes, key, num_steps=steps, progress=update)

    def _round(self, number: int, make_conditions: Callable[[], np.ndarray]) -> Round:
        """Draw and embed the faces of conditions, which are made if they are not on disk, and sum up."""
        folder = self._run / f"round-{number}"
        folder.mkdir(exist_ok=True)
        if not (folder / CONDITIONS).exists():
            write_embeddings(folder / CONDITIONS, make_conditions())
        rows = np.load(folder / CONDITIONS)
        config = self._config
        assert config.through is not None
        drawn = Synthesize(
            embeddings=folder / CONDITIONS,
            generator=config.through,
            out=folder / FACES,
            # Other noise than a data set of the same seed, so that its faces were not seen here.
            seed=2**32 + 1000 * config.seed + number,
            images_per_id=config.probe_images,
            recognizer=config.recognizer,
            crop=config.crop,
            batch_size=min(100, len(rows) * config.probe_images),
            max_attempts=1,
        )
        self._synthesize(drawn, watch=self._watch)
        parts = list(read_face_embeddings(sorted((folder / FACES / FACE_EMBEDDINGS).iterdir())))
        probes = probes_of(
            rows,
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.identities for part in parts]),
        )
        own = slice(config.num_ids)
        figures = {
            "round": number,
            **_measured(probes.conditions[own], probes.means[own]),
            "noise": math.sqrt(probes.noise),
        }
        return Round(probes, figures)

    def _write(
        self,
        start: np.ndarray,
        probes: Probes,
        chosen: Selection,
        rounds: list[dict[str, Any]],
    ) -> Result:
        """Write the identities and the figures."""
        config, run = self._config, self._run
        x = probes.conditions[chosen.rows]
        write_embeddings(run / names.EMBEDDINGS, x)
        found = _measured(x, chosen.means)
        summary = {
            "num_ids": config.num_ids,
            "dim": x.shape[1],
            "method": "through",
            "generator": config.through,
            "seed": config.seed,
            "num_images": num_images(config),
            "max_cosine": float(jnp.max(row_max(jnp.asarray(x)))),
            "mean_nearest_cosine": found["nearest_conditions"],
            "start_mean_nearest_cosine": float(jnp.mean(row_max(jnp.asarray(start)))),
            "gallery_mean_cosine": float(jnp.mean(jnp.max(jnp.asarray(x) @ self._gallery.T, 1))),
            "faces_mean_nearest_cosine": found["nearest_faces"],
            "faces_target_cosine": found["target_cosine"],
            "faces_agreement": found["within_cosine"],
            "rounds": rounds,
            "seconds": time.perf_counter() - self._started,
            **machine(1),
        }
        # Imported late, because this needs the cli extra.
        from hyperface_jax.reports.through import write_through_report

        atomic_write_json(run / names.SUMMARY, summary)
        report = write_through_report(run.path, summary)
        return Result(run.path, summary, f"{_in_words(summary)}\nreport: {report}")


def _measured(conditions: np.ndarray, means_of_faces: np.ndarray) -> dict[str, float]:
    """Return the figures of conditions and of the mean embeddings of their faces, ``[n, d]`` each."""
    x, means = jnp.asarray(conditions), jnp.asarray(means_of_faces)
    length = jnp.linalg.norm(means, axis=1)
    faces = sphere.normalize(means)
    return {
        "nearest_conditions": float(jnp.mean(row_max(x))),
        "nearest_faces": float(jnp.mean(row_max(faces))),
        "target_cosine": float(jnp.mean(sphere.inner(x, faces))),
        "within_cosine": float(jnp.mean(length)),
    }


def _in_words(summary: dict[str, Any]) -> str:
    return (
        f"faces: mean nearest cosine {summary['faces_mean_nearest_cosine']:.4f} (expected of new ones), "
        f"to their target {summary['faces_target_cosine']:.4f}; embeddings: mean nearest cosine "
        f"{summary['mean_nearest_cosine']:.4f}; {summary['num_images']} images, "
        f"{summary['seconds']:.1f} s"
    )

"""A packing by search: as many trials as fit into the time, and the best one kept on disk."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax import sphere
from hyperface_jax.errors import InputError, Stopped
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.embeddings import write_coordinates, write_embeddings
from hyperface_jax.io.files import JsonLines, atomic_save_npz, one_line
from hyperface_jax.packing import row_max
from hyperface_jax.packing.islands import Islands, processes_for
from hyperface_jax.packing.searching import Found, Search, checked_size
from hyperface_jax.runs.packing.inputs import Inputs, resolved_config
from hyperface_jax.runs.packing.results import (
    COORDINATES,
    is_new_record,
    unheld,
    write_summary,
)
from hyperface_jax.runs.packing.settings import FREE_TO_CHANGE, Pack
from hyperface_jax.runs.support.jobs import Saving, open_run
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from hyperface_jax.io.run_directory import RunDirectory

BEST = "search.npz"
"""The best packing so far, and the figures of the search."""


def pack_by_search(config: Pack, inputs: Inputs, watch: Watch) -> Result:
    """Search for the best packing, continue a search, or report a finished one."""
    if jax.process_count() > 1:
        raise InputError("`search` is for a single process: run it without the others")
    assert config.search is not None
    checked_size(config.num_ids, inputs.dim)
    run = open_run(config.out, 16 * config.num_ids * inputs.dim)
    try:
        resolved = resolved_config(config, inputs)
        run.claim(resolved, ignore=(*FREE_TO_CHANGE, "search"))
        if run.is_finished:
            summary = run.summary()
            text = f"{run.path}: already finished, max cosine {summary['max_cosine']:.9f}"
            return Result(run.path, summary, text)
        found = Found()
        if (run / BEST).exists():
            found = _read(run / BEST)
            watch.say(f"{run.path}: resuming after {found.seconds:.0f} s")
        running = Search(config.num_ids, inputs.dim, config.seed, found)
        _advance(running, config, run, watch)
        return _write(running.found, config, inputs, run, watch)
    finally:
        run.close()


def _advance(running: Search, config: Pack, run: RunDirectory, watch: Watch) -> None:
    """Run batches until the time is used up; a stop request saves and raises."""
    found, seconds = running.found, config.search
    assert seconds is not None
    run.truncate_history(found.num_batches)
    opened = watch.progress("searching", "", 1.0, min(found.seconds / seconds, 1.0))
    saving = Saving(lambda _, found, __: _save(run / BEST, found), config.checkpoint_seconds)
    saved = found.max_cosine
    side_by_side = closing(Islands(running, processes_for(seconds - found.seconds)))
    history = JsonLines(run / names.HISTORY)
    with watch.stopping() as is_asked, history as log, opened as update, side_by_side as islands:
        while running.is_short_of(seconds):
            islands.advance()
            log.append(_history_row(found))
            rate = found.num_trials / found.seconds
            figure = f"max cosine {found.max_cosine:.9f}  {found.num_trials} packings, {rate:.1f}/s"
            update(min(found.seconds / seconds, 1.0), figure)
            is_stopping = is_asked()
            if found.x is not None and (found.max_cosine < saved or saving.is_due or is_stopping):
                saving.save(found.num_batches, found, {})
                saved = found.max_cosine
            if is_stopping:
                raise Stopped(run.path)
    if running.is_done:
        watch.say("a proven bound is met: no packing is better")
    running.finish(seconds)


def _history_row(found: Found) -> dict[str, Any]:
    return {
        "step": found.num_batches - 1,
        "max_cosine": None if found.x is None else found.max_cosine,
        "num_packings": found.num_trials,
        "seconds": round(found.seconds, 3),
    }


def _save(path: Path, found: Found) -> None:
    atomic_save_npz(path, **vars(found))


def _read(path: Path) -> Found:
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {item.name: stored[item.name] for item in fields(Found)}
        x = np.asarray(values.pop("x"), np.float64)
        return Found(x, **{name: value.item() for name, value in values.items()})
    except Exception as error:  # A damaged file makes NumPy raise nearly anything.
        raise InputError(
            f"{one_line(path)}: damaged ({error}): delete it to start again"
        ) from error


def _write(found: Found, config: Pack, inputs: Inputs, run: RunDirectory, watch: Watch) -> Result:
    x = found.x
    assert x is not None
    _save(run / BEST, found)
    start = sphere.sample_uniform(jax.random.key(config.seed), config.num_ids, inputs.dim)
    before, after = np.asarray(row_max(start)), np.asarray(row_max(jnp.asarray(x, jnp.float32)))
    write_embeddings(run / names.EMBEDDINGS, x)
    write_coordinates(run / COORDINATES, x)
    atomic_save_npz(run / names.DIAGNOSTICS, nearest_before=before, nearest_after=after)
    summary = {
        **unheld(config, inputs.dim, found.max_cosine),
        "method": "search",
        "steps": found.num_batches,
        "num_packings": found.num_trials,
        "found_by": found.origin,
        "polished": True,
        "max_cosine_rows": config.num_ids,
        "max_cosine_is_exact": True,
        "mean_nearest_cosine": float(after.mean()),
        "is_new_record": is_new_record(x),
        "initial_max_cosine": float(before.max()),
        "seconds": found.seconds,
    }
    return write_summary(run, summary, watch)

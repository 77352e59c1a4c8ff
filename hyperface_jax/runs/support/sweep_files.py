"""The state of an unfinished sweep in a file, so that the same call goes on inside of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hyperface_jax.errors import Stopped
from hyperface_jax.io.files import atomic_save_npz, one_line
from hyperface_jax.pairwise import SweepState
from hyperface_jax.runs.support.jobs import Saving
from hyperface_jax.runs.support.watch import Watch

_SECONDS = 30.0
"""Seconds between two saves, at least."""

_TASK, _NUM_BLOCKS, _NUM_DONE, _LEAF = "task", "num_blocks", "num_done", "statistics_{}"


class SweepFile:
    """A :class:`.SweepStore` that saves now and then, and when a stop is asked for.

    Args:
        path: the .npz file.
        task: what is swept, such as the digests of both sets; a file of another task is not used.
        is_asked: tells whether to stop.
        watch: told where the sweep goes on.
        is_result_kept: save the state after the last pair of blocks too, because other work follows.
    """

    def __init__(
        self,
        path: Path,
        task: Mapping[str, Any],
        is_asked: Callable[[], bool],
        watch: Watch,
        *,
        is_result_kept: bool = False,
    ) -> None:
        self._path, self._task = path, json.dumps(task, sort_keys=True)
        self._is_asked, self._watch, self._is_result_kept = is_asked, watch, is_result_kept
        self._saving = Saving(self._write, _SECONDS)

    def load(self) -> SweepState | None:
        """Return the state in the file; None if there is none of this task."""
        try:
            with np.load(self._path, allow_pickle=False) as file:
                if str(file[_TASK]) != self._task:
                    return None
                first, second = file[_NUM_BLOCKS].tolist()
                count = sum(name.startswith(_LEAF.format("")) for name in file.files)
                leaves = [file[_LEAF.format(i)] for i in range(count)]
                state = SweepState((first, second), int(file[_NUM_DONE]), leaves)
        except FileNotFoundError:
            return None
        except Exception as error:  # A damaged file makes NumPy raise nearly anything.
            self._watch.warn(f"{one_line(self._path)}: is damaged ({error}); starting again")
            return None
        self._watch.say(f"{one_line(self._path)}: going on after {state.num_done} pairs of blocks")
        return state

    def is_due(self, is_last: bool, /) -> bool:
        """Tell whether to save: a stop is asked for, it is time, or the last pair of blocks is done."""
        return self._is_asked() or (self._is_result_kept if is_last else self._saving.is_due)

    def save(self, state: SweepState, /) -> None:
        """Save the state, and stop if that is asked for.

        Raises:
            Stopped: a stop is asked for.
        """
        self._saving.save(state.num_done, state, {_TASK: self._task})
        if self._is_asked():
            raise Stopped(self._path.parent)

    def _write(self, step: int, state: SweepState, notes: dict[str, Any]) -> None:
        leaves = {_LEAF.format(i): leaf for i, leaf in enumerate(state.statistics)}
        sizes: dict[str, Any] = {_NUM_BLOCKS: state.num_blocks, _NUM_DONE: step}
        atomic_save_npz(self._path, **notes, **sizes, **leaves)

"""The log of a training run: history.jsonl and TensorBoard events."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from tensorboardX import SummaryWriter

from hyperface_jax import processes
from hyperface_jax.io import run_directory as names
from hyperface_jax.io.files import JsonLines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hyperface_jax.io.run_directory import RunDirectory
    from hyperface_jax.recognition.fitting import Fitted

_TENSORBOARD = "tensorboard"


class Log:
    """Writer of history lines and events; only the first process writes them.

    Args:
        run: the run directory.
        step: number of steps done; lines of later steps are dropped and will be written again.
    """

    def __init__(self, run: RunDirectory, step: int) -> None:
        self._lines: Any = nullcontext()
        self._events: Any = None
        if processes.is_first_process():
            run.truncate_history(step + 1)
            self._lines = JsonLines(run / names.HISTORY)
            self._events = SummaryWriter(str(run / _TENSORBOARD), purge_step=step)

    def __enter__(self) -> Self:
        self._lines.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lines.__exit__(*error)
        if self._events:
            self._events.close()

    def write(self, fitted: Fitted, figures: Mapping[str, float]) -> None:
        """Write the figures of the last step."""
        if not self._events:
            return
        row = {"step": fitted.step, "epoch": round(fitted.epoch, 4), **figures}
        self._lines.append(row)
        for name, value in figures.items():
            self._events.add_scalar(name, value, fitted.step)

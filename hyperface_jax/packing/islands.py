"""A search on all cores: one search a core, each in a process of its own, that share what they find.

Threads would wait for each other, because much of the work is Python's. The process that was asked for
the search passes on what the others find. They need some seconds until they are up, so a short search
runs in the process that was asked for it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, NoReturn, TypeAlias

import jax

from hyperface_jax.packing.inputs import whole
from hyperface_jax.packing.searching import Found, News, Search

Inbox: TypeAlias = "SimpleQueue[tuple[int, News | None]]"
"""What searches tell, with their numbers; None from one whose process has ended."""

_SHORT = 10.0
"""Seconds of a search for which no process is started."""
_SERVE = "from hyperface_jax.packing.islands import serve; serve()"
_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that limit threads; XLA reads the first."""


class Islands:
    """A search in several processes, which :meth:`close` ends.

    Args:
        search: a search; it takes in what all of them find.
        num_processes: number of processes; 0 searches in this one.
    """

    def __init__(self, search: Search, num_processes: int) -> None:
        self._search = search
        self._num_processes = num_processes
        self._inbox: Inbox = SimpleQueue()
        self._islands: dict[int, _Island] = {}
        self._up: set[int] = set()

    def close(self) -> None:
        """End all processes."""
        for island in self._islands.values():
            island.close()
        self._islands, self._up = {}, set()

    def advance(self) -> None:
        """Wait until a process has optimized a batch; without any, optimize one in this one."""
        found, started = self._search.found, time.perf_counter()
        spent, before = found.seconds, found.num_batches
        if self._num_processes:
            self._start()
        while self._islands and (found.num_batches == before or not self._inbox.empty()):
            self._hear(*self._inbox.get())
        if found.num_batches == before:
            self._search.advance()
        found.seconds = spent + time.perf_counter() - started

    def _start(self) -> None:
        numbers = range(1, self._num_processes + 1)
        self._islands = {number: _Island(number, self._inbox) for number in numbers}
        self._num_processes = 0

    def _hear(self, number: int, news: News | None) -> None:
        island = self._islands[number]
        if news is None:
            self._up.discard(number)
            del self._islands[number]
            warnings.warn(
                f"a process of the search ended with status {island.close()}: it goes on without",
                RuntimeWarning,
                stacklevel=2,
            )
        elif number in self._up:
            self._search.hear(news)
            self._tell_others(number, news)
        else:
            self._up.add(number)
            island.send((*self._search.settings, number))
            island.send(self._search.so_far())

    def _tell_others(self, teller: int, news: News) -> None:
        if news.taken:
            for number in self._up - {teller}:
                self._islands[number].send(News(news.taken))


class _Island:
    """A process with a search, whose first word says that it is up."""

    def __init__(self, number: int, inbox: Inbox) -> None:
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        limits = dict.fromkeys(_THREADS, "1")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE],
            env={**os.environ, **limits, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._from, self._to = self._process.stdout, self._process.stdin
        self._listener = _listener(self._from, lambda news: inbox.put((number, news)))

    def send(self, message: Any) -> None:
        """Send a message; if the process has ended, its listener tells."""
        with suppress(OSError):
            _send(self._to, message)

    def close(self) -> int:
        """End the process, and return its status."""
        self._process.kill()
        status = self._process.wait()
        self._listener.join()
        for stream in (self._from, self._to):
            with suppress(OSError):
                stream.close()
        return status


def serve() -> NoReturn:
    """Search in this process for the one that started it, until that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The one that started it decides.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    to = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # What else is printed is no message.
    _send(to, News())
    running = Search(*pickle.load(sys.stdin.buffer))
    inbox: SimpleQueue[News] = SimpleQueue()

    def take(news: News | None) -> None:
        if news is None:
            os._exit(0)
        inbox.put(news)

    _listener(sys.stdin.buffer, take)
    while True:
        while not inbox.empty():
            running.hear(inbox.get())
        running.advance()
        _send(to, running.news())


def _listener(stream: IO[bytes], take: Callable[[News | None], None]) -> Thread:
    """Start a thread that takes all messages, and None at the end: no sender waits for a receiver.

    Both ends are of this package, so what is unpickled is what was pickled here.
    """

    def listen() -> None:
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                take(pickle.load(stream))
        take(None)

    thread = Thread(target=listen, daemon=True)
    thread.start()
    return thread


def _send(stream: IO[bytes], message: Any) -> None:
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def processes_for(seconds: float, num_processes: int | None = None) -> int:
    """Return how many processes to start for a search.

    Args:
        seconds: its time; a few seconds are over before a process is up.
        num_processes: number of processes that search, 1 for only this one; None takes one a core, and
            only this one with an accelerator, which a batch keeps busy.

    Raises:
        InputError: ``num_processes`` is not a whole number, or less than 1.
    """
    if num_processes is not None:
        asked = whole("num_processes", num_processes, least=1)
    else:
        asked = _num_cores() if jax.default_backend() == "cpu" else 1
    return asked if asked > 1 and seconds > _SHORT and sys.executable else 0


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    is_known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1


def search(
    num_points: int,
    dim: int,
    *,
    seconds: float,
    seed: int = 0,
    target: float | None = None,
    from_codes: bool = True,
    num_processes: int | None = None,
    callback: Callable[[Found], Any] | None = None,
) -> Found:
    """Search for the packing of n points in ``R^d`` with the smallest max cosine.

    Args:
        num_points: number of points n.
        dim: dimension d.
        seconds: time to spend, compilations included; at least one batch is finished. The last tenth is
            kept for polishing the best packing, which takes up to ten seconds.
        seed: seed of all randomness. How far a search comes depends on the machine too.
        target: max cosine that is good enough, where the search ends early; None goes on. It ends anyway
            at a proven lower bound, below which there is nothing to find.
        from_codes: whether to begin with the best construction of :mod:`hyperface_jax.codes`, and to
            try others with about as many points.
        num_processes: number of processes that search, on the CPU, if there are more than ten seconds; 1
            is this one, and None takes one for each core, or this one with an accelerator.
        callback: called with what was found so far, whenever a batch is done.

    Returns:
        The best packing, in float64; not polished as a whole where it met the target.

    Raises:
        InputError: a size is too small, ``num_points (dim - 1)`` is above 20,000, or ``num_processes``
            is less than 1.

    Examples:
        >>> found = search(12, 3, seconds=1)
        >>> round(found.max_cosine, 9)  # the icosahedron
        0.447213595
    """
    running = Search(num_points, dim, seed, target=target, from_codes=from_codes)
    with closing(Islands(running, processes_for(seconds, num_processes))) as islands:
        while running.is_short_of(seconds):
            islands.advance()
            if callback:
                callback(running.found)
    running.finish(seconds)
    return running.found

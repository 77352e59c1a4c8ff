"""What jobs of several processes share, in one process."""

import threading
import time

from hyperface_jax.runs.support.jobs import Patience
from hyperface_jax.runs.support.watch import no_progress


def test_patience_ends_when_nothing_is_reported():
    ended = threading.Event()
    reasons = []

    def give_up(reason):
        reasons.append(reason)
        ended.set()

    with Patience(0.05, give_up):
        assert ended.wait(10)
    assert "no progress" in reasons[0]


def test_patience_lasts_while_progress_is_reported():
    reasons, seen = [], []

    def progress(title, unit, total, done=0):
        seen.append((title, unit, total, done))
        return no_progress(title, unit, total, done)

    with (
        Patience(5.0, reasons.append) as patience,
        patience.noticing(progress)("packing", "steps", 9, 2) as update,
    ):
        for done in range(9):
            update(done, "max cosine 0.1")
            time.sleep(0.01)
    assert not reasons
    assert seen == [("packing", "steps", 9, 2)]

"""What jobs of several processes share, in one process."""

import json
import math
import threading
import time
from pathlib import Path

import numpy as np

from hyperface_jax.runs.support.jobs import Patience
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.watch import no_progress


def test_patience_ends_when_nothing_is_reported():
    ended = threading.Event()
    reasons = []

    def give_up(reason):
        reasons.append(reason)
        ended.set()

    with Patience(0.05, give_up) as patience:
        assert not ended.wait(0.3), "programs may still compile"
        for _ in range(3):
            patience.notice()
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


def test_a_summary_is_json_whatever_a_stage_puts_into_it():
    figures = {"model": Path("model"), "d_prime": math.inf, "rates": np.ones(2, np.float32)}
    result = Result(None, figures, "")
    assert json.loads(json.dumps(result.summary)) == result.summary
    assert result.summary == {"model": "model", "d_prime": None, "rates": [1.0, 1.0]}

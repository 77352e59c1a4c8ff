"""Searches in several processes, which share what they find and end together."""

import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.packing import islands
from hyperface_jax.packing.islands import Islands, processes_for, search
from hyperface_jax.packing.searching import Found, News, Search, measured


@pytest.fixture(scope="module")
def first_batches():
    """What two searches found in their first batches, and a third with the numbers of the first."""
    searches = [Search(14, 3, from_codes=False, island=island) for island in (1, 2, 1)]
    for one in searches:
        one.advance()
    return searches


def test_searches_side_by_side_draw_different_numbers(first_batches):
    first, other, again = (one.found.x for one in first_batches)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_search_takes_over_what_another_found_and_does_not_tell_it_again(first_batches):
    teller = first_batches[0]
    news = teller._news
    assert news.num_batches == 1
    assert news.num_trials == teller.found.num_trials
    assert news.taken
    listener = Search(14, 3, from_codes=False, island=3)
    listener.hear(news)
    assert listener.found.max_cosine == teller.found.max_cosine
    assert listener.found.origin == teller.found.origin
    assert listener.found.num_trials == teller.found.num_trials
    assert listener._batches._symmetries.best
    assert listener.news() == News()
    late = Search(14, 3, from_codes=False, island=4)
    late.hear(teller.so_far())
    assert late.found.max_cosine == teller.found.max_cosine
    assert late.found.num_trials == 0


def test_news_are_told_once():
    running = Search(14, 3, from_codes=False)
    running.advance()
    assert running.news().num_batches == 1
    assert running.news() == News()


@pytest.fixture
def both_up():
    """A search with two processes that are up."""
    running = Search(24, 4, from_codes=False)
    with closing(Islands(running, 2)) as side_by_side:
        while len(side_by_side._up) < 2:
            before = running.found.num_batches
            side_by_side.advance()
            assert running.found.num_batches > before
        yield running, side_by_side


def test_processes_search_and_end_with_the_block(both_up):
    running, side_by_side = both_up
    found = running.found
    while found.num_batches < 6:
        side_by_side.advance()
    assert running._number == 0  # All of it was done by the others.
    assert found.num_trials > 100
    assert found.max_cosine == measured(found.x)
    processes = [island._process for island in side_by_side._islands.values()]
    assert [process.poll() for process in processes] == [None, None]
    side_by_side.close()
    assert None not in [process.poll() for process in processes]


def _advance_alone(side_by_side):
    while side_by_side._islands:
        side_by_side.advance()


def test_a_search_goes_on_without_processes_that_were_killed(both_up):
    running, side_by_side = both_up
    for island in side_by_side._islands.values():
        island._process.kill()
    with pytest.warns(RuntimeWarning, match="process of the search ended with status") as warned:
        _advance_alone(side_by_side)
    assert len(warned) == 2
    side_by_side.advance()
    assert running._number > 0


def test_a_process_ends_with_the_one_that_started_it():
    process = subprocess.Popen(
        [sys.executable, "-c", islands._SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.read(1)  # It is up.
    islands._send(process.stdin, (14, 3, 0, Found(), 0.0, False, 1))
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_a_target_ends_a_search_in_several_processes():
    started = time.perf_counter()
    found = search(24, 4, seconds=600, target=0.51, from_codes=False, num_processes=2)
    assert found.max_cosine <= 0.51
    assert found.seconds <= time.perf_counter() - started


def test_processes_are_started_for_long_searches(monkeypatch):
    monkeypatch.setattr(islands, "_num_cores", lambda: 6)
    assert processes_for(60.0) == 6
    assert processes_for(60.0, 3) == 3
    assert processes_for(60.0, 1) == processes_for(1.0) == 0
    monkeypatch.setattr(islands.jax, "default_backend", lambda: "gpu")
    assert processes_for(60.0) == 0
    with pytest.raises(InputError, match="num_processes"):
        processes_for(60.0, 0)

"""``hyperface pack --search``: it searches, resumes, and announces a new record."""

import json

import numpy as np
import pytest

from hyperface_jax import codes
from hyperface_jax.cli.main import main
from hyperface_jax.codes import records
from hyperface_jax.io.embeddings import write_coordinates
from hyperface_jax.runs import Pack, Stopped, Watch, pack
from hyperface_jax.runs.packing.results import _in_words, new_record, yardsticks
from hyperface_jax.runs.packing.searching import BEST

ROWS, DIM = 18, 3
PROVEN, RECORD = 24, 0.7230784683335085


def run(*words):
    return main([str(word) for word in words])


def search_words(out, seconds=0.01):
    return ["pack", "--num-ids", ROWS, "--dim", DIM, "--search", seconds, "--out", out]


def read(out):
    return json.loads((out / "summary.json").read_text())


class AskedToStop:
    def __enter__(self):
        return lambda: True

    def __exit__(self, *problem):
        return None


def test_a_stopped_search_goes_on_and_writes_the_best_as_text_too(tmp_path, capsys):
    config = Pack(num_ids=ROWS, dim=DIM, search=30.0, out=tmp_path)
    with pytest.raises(Stopped):
        pack(config, watch=Watch(stopping=AskedToStop))
    with np.load(tmp_path / BEST) as stored:
        before, batches = float(stored["max_cosine"]), int(stored["num_batches"])
    assert run(*search_words(tmp_path, 0.02)) == 0
    figures = read(tmp_path)
    assert figures["max_cosine"] <= before
    assert figures["steps"] == batches
    assert figures["method"] == "search"
    assert figures["num_packings"] >= 1
    x = np.load(tmp_path / "embeddings.npy")
    assert x.dtype == np.float64
    scores = x @ x.T - 3 * np.eye(ROWS)
    assert scores.max() == pytest.approx(figures["max_cosine"], abs=1e-14)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "coordinates.txt"), x)
    assert "best construction" in capsys.readouterr().out
    assert run(*search_words(tmp_path)) == 0
    assert "already finished" in capsys.readouterr().out


def test_a_result_below_the_record_is_announced(tmp_path, monkeypatch):
    x = np.asarray(codes.best_known(PROVEN, DIM).block(0, PROVEN))
    listed = records.Record(PROVEN, DIM, RECORD, "a table")
    monkeypatch.setattr(records, "records", lambda: (listed,))
    assert new_record(tmp_path, x) == {"is_new_record": False}
    assert not list(tmp_path.iterdir())
    listed = records.Record(PROVEN, DIM, RECORD + 1e-6, "a table")
    assert new_record(tmp_path, x) == {"is_new_record": True}
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "coordinates.txt"), x)
    assert new_record(tmp_path, x[1:]) == {"is_new_record": False}  # of another size


def summary_in_words(**more):
    common = {"max_cosine_is_exact": True, "seconds": 1.0, "gallery_mean_cosine": None}
    figures = {**yardsticks(18, 3, 0.7), **common, "keep_out_violations": None, **more}
    return figures, "\n".join(_in_words(figures))


def test_a_record_is_named_where_it_is_better_than_the_best_construction():
    figures, told = summary_in_words()
    listed = codes.record(18, 3)
    assert (figures["record"], figures["record_source"]) == (listed.max_cosine, listed.source)
    assert f"record {listed.max_cosine:.6f}" in told
    assert "new record" not in told
    assert "new record" in summary_in_words(is_new_record=True)[1]
    assert yardsticks(24, 3, 0.8)["record"] is None


def test_a_run_near_a_gallery_is_compared_with_no_code():
    _, told = summary_in_words(gallery_mean_cosine=0.5)
    assert "best construction" not in told
    assert "record" not in told
    assert "lower bound" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 5], "--steps does not go with --search"),
        (["--restarts", 2], "--restarts does not go with --search"),
        (["--coarse-steps", 5], "--coarse-steps does not go with --search"),
        (["--polish"], "--polish does not go with --search"),
        (["--search", 0], "--search 0.0: must be above 0"),
        (["--num-ids", 30_000], "num_points=30000"),
    ],
)
def test_what_a_search_cannot_do_is_refused(tmp_path, capsys, words, message):
    assert run(*search_words(tmp_path / "run"), *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_search_ends_at_once_where_a_construction_is_optimal(tmp_path, capsys):
    words = ["pack", "--num-ids", PROVEN, "--dim", DIM, "--search", 30, "--out", tmp_path]
    assert run(*words) == 0
    assert "a proven bound is met" in capsys.readouterr().out
    figures = read(tmp_path)
    assert figures["max_cosine"] == pytest.approx(RECORD, abs=1e-11)
    assert figures["seconds"] < 5
    assert figures["found_by"].startswith("construction snub cube")


def test_a_damaged_file_is_named(tmp_path, capsys):
    config = Pack(num_ids=ROWS, dim=DIM, search=30.0, out=tmp_path)
    with pytest.raises(Stopped):
        pack(config, watch=Watch(stopping=AskedToStop))
    whole = (tmp_path / BEST).read_bytes()
    for damaged in (b"", b"PK broken", whole[: len(whole) // 2]):
        (tmp_path / BEST).write_bytes(damaged)
        assert run(*search_words(tmp_path)) == 2
        assert "search.npz: damaged" in capsys.readouterr().err


def test_coordinates_keep_every_digit(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 3))
    write_coordinates(tmp_path / "points.txt", x)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "points.txt"), x)

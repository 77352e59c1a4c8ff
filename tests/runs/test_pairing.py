"""``hyperface pairs``: a reproducible benchmark from a folder of people."""

import csv

import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.cli.main import main
from hyperface_jax.errors import InputError
from hyperface_jax.evaluation.pair_drawing import draw_pairs
from hyperface_jax.io.images import encode
from hyperface_jax.io.verification_files import read_verification_set

COUNTS = {"ann": 5, "bob": 1, "eve": 3, "x/zoe": 4}


@pytest.fixture
def people(tmp_path):
    rng = np.random.default_rng(0)
    for person, count in COUNTS.items():
        for i in range(count):
            path = tmp_path / "people" / person / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)))
    return tmp_path / "people"


def test_the_list_is_what_evaluate_reads(people, tmp_path):
    out = tmp_path / "pairs.csv"
    assert main(["pairs", str(people), "--num", "20", "--out", str(out)]) == 0
    found = read_verification_set(out, people)
    assert found.is_same.tolist() == [True, False] * 10
    names = [path.relative_to(people) for path in found.images]
    pairs = list(zip(names[::2], names[1::2], strict=True))
    assert [a.parent == b.parent for a, b in pairs] == found.is_same.tolist()
    assert len({frozenset(pair) for pair in pairs}) == 20
    first = out.read_bytes()
    assert main(["pairs", str(people), "--num", "20", "--out", str(out)]) == 0
    assert out.read_bytes() == first
    assert main(["pairs", str(people), "--num", "20", "--seed", "1", "--out", str(out)]) == 0
    assert out.read_bytes() != first
    assert next(csv.reader(out.open())) == ["path1", "path2", "label"]


def test_every_pair_there_is_can_be_drawn():
    labels = [0, 0, 1, 1, 1, 2, 2]
    drawn = draw_pairs(labels, 10, seed=0, num_folds=1)
    genuine = {(a, b) for a, b in zip(drawn.first[:5], drawn.second[:5], strict=True)}
    assert genuine == {(0, 1), (2, 3), (2, 4), (3, 4), (5, 6)}
    assert all(
        labels[a] != labels[b] for a, b in zip(drawn.first[5:], drawn.second[5:], strict=True)
    )


def test_a_person_of_many_images_counts_as_any_other():
    labels = np.repeat(np.arange(100), [500] + [20] * 99)
    drawn = draw_pairs(labels, 4000, seed=0)
    share = np.mean(labels[drawn.first[drawn.is_same]] == 0)
    assert 0.002 < share < 0.03
    pairs = set(zip(drawn.first.tolist(), drawn.second.tolist(), strict=True))
    assert len(pairs) == 4000
    same = labels[drawn.first] == labels[drawn.second]
    np.testing.assert_array_equal(same, drawn.is_same)
    np.testing.assert_array_equal(same.reshape(10, -1).sum(axis=1), 200)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num": 30}, "`num=30`: must be a multiple of 20"),
        ({"num": 40}, "needs 20 genuine pairs; 4 persons with 13 images have 19: take a smaller"),
        ({"seed": -1}, "`seed=-1`"),
        ({"out": "pairs.txt"}, "must end in .csv"),
        ({"images": "people/ann"}, "0.png lies in no folder of a person"),
        ({"images": "no"}, "no"),
    ],
)
def test_bad_input_is_refused(people, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    chosen = {"images": "people", "out": "pairs.csv", **settings}
    paths = {key: tmp_path.__class__(chosen.pop(key)) for key in ("images", "out")}
    with pytest.raises(InputError) as caught:
        runs.pairs(runs.Pairs(**paths, **chosen))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_of_something_else_is_not_replaced(people, tmp_path):
    (tmp_path / "pairs.csv").write_text("my,table\n")
    with pytest.raises(InputError, match="was not written by pairs"):
        runs.pairs(runs.Pairs(images=people, out=tmp_path / "pairs.csv"))

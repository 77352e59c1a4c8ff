import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import all_pairs


def _persons(num, images, spread, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(num, 16))
    rows = centers[:, None] + spread * rng.normal(size=(num, images, 16))
    return rows.reshape(-1, 16), np.repeat(np.arange(num), images)


def test_figures_are_those_of_the_plain_loops():
    rows, labels = _persons(12, 3, 1.2)
    found = all_pairs(3 * rows, labels)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    hits = 0
    for probe in range(36):
        if probe % 3:
            scores = [unit[probe] @ unit[3 * person] for person in range(12)]
            hits += int(np.argmax(scores)) == labels[probe]
    assert found.rank_1 == hits / 24
    pairs = [(unit[i] @ unit[j], labels[i] == labels[j]) for i in range(36) for j in range(i)]
    impostor = sorted((score for score, same in pairs if not same), reverse=True)
    allowed = int(0.01 * len(impostor))
    genuine = [score for score, same in pairs if same]
    tar = np.mean([score > impostor[allowed] for score in genuine])
    assert found.separation.tar_at_far[1e-2] == pytest.approx(tar)
    assert found.summary()["num_impostor"] == len(impostor) == 36 * 35 // 2 - 36
    assert 0 < found.rank_1 < 1


def test_separate_persons_are_all_found():
    found = all_pairs(*_persons(20, 4, 0.01))
    assert (found.rank_1, found.separation.auc) == (1.0, 1.0)
    assert found.summary()["tar_at_far"]["1e-03"] == 1.0


@pytest.mark.parametrize(
    ("labels", "named"),
    [([0, 1], "persons: "), ([0, 0, 0], "two persons"), ([0, 1, 2], "one with two images")],
)
def test_sets_that_cannot_be_measured_are_named(labels, named):
    with pytest.raises(InputError, match=named):
        all_pairs(np.eye(3), labels)

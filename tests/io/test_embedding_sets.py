import hashlib

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.io.embedding_sets import (
    open_embedding_set,
    read_labels,
    read_names,
    read_numbers,
)
from hyperface_jax.io.embeddings import file_sha256, read_embeddings


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def npz(path, rows, **arrays):
    np.savez(path, embeddings=rows, **arrays)
    return open_embedding_set(path)


def test_slices_are_the_unit_rows_and_the_file_stays_on_disc(tmp_path, rows):
    path = tmp_path / "x.npy"
    np.save(path, rows)
    found = open_embedding_set(path)
    assert isinstance(found.matrix, np.memmap)
    assert found.shape == (12, 5)
    assert found.sha256 == file_sha256(path)
    whole = read_embeddings(path).points
    np.testing.assert_array_equal(found[3:9], whole[3:9])
    np.testing.assert_array_equal(found[0:12], whole)


def test_a_run_and_a_data_set_are_read_from_their_folder(tmp_path, rows):
    (tmp_path / "run").mkdir()
    np.save(tmp_path / "run" / "embeddings.npy", rows)
    np.testing.assert_array_equal(open_embedding_set(tmp_path / "run").matrix, rows)
    shards = tmp_path / "data" / "embeddings"
    shards.mkdir(parents=True)
    np.savez(shards / "shard-000001.npz", embeddings=rows[7:], identities=np.arange(7, 12))
    np.savez(shards / "shard-000000.npz", embeddings=rows[:7], identities=np.arange(7))
    found = open_embedding_set(tmp_path / "data")
    np.testing.assert_array_equal(found.matrix, rows)
    np.testing.assert_array_equal(read_numbers(found), np.arange(12))
    digests = "".join(file_sha256(path) for path in sorted(shards.iterdir()))
    assert found.sha256 == hashlib.sha256(digests.encode()).hexdigest()
    np.savez(shards / "shard-000002.npz", embeddings=rows[:, :4], identities=np.arange(12))
    with pytest.raises(InputError, match=r"000002.npz: rows have dimension 4, not 5"):
        open_embedding_set(tmp_path / "data")


@pytest.mark.parametrize("key", ["labels", "identities", "persons"])
def test_labels_beside_the_embeddings(tmp_path, rows, key):
    names = np.array([f"x/{i}.png" for i in range(12)])
    found = npz(tmp_path / "x.npz", rows, **{key: np.arange(12) // 3}, names=names)
    np.testing.assert_array_equal(read_labels(found), np.arange(12) // 3)
    np.testing.assert_array_equal(read_names(found), names)


def test_folders_of_names_are_labels(tmp_path, rows):
    names = np.array([f"{i // 4:06d}/{i % 4:04d}.png" for i in range(12)])
    found = npz(tmp_path / "x.npz", rows, names=names)
    assert read_labels(found).tolist() == [f"{i // 4:06d}" for i in range(12)]
    np.testing.assert_array_equal(read_numbers(found), np.arange(12) // 4)


def test_a_key_after_a_colon_chooses_embeddings_and_labels(tmp_path, rows):
    path = tmp_path / "two.npz"
    np.savez(path, front=rows, side=rows[::-1], labels=np.arange(12), who=np.arange(12) // 3)
    found = open_embedding_set(f"{path}:side")
    np.testing.assert_array_equal(found.matrix, rows[::-1])
    assert found.sha256 != open_embedding_set(f"{path}:front").sha256
    np.testing.assert_array_equal(read_labels(found), np.arange(12))
    np.testing.assert_array_equal(read_labels(found, f"{path}:who"), np.arange(12) // 3)
    with pytest.raises(InputError, match=r"two.npz:what: holds none of the arrays what"):
        read_labels(found, f"{path}:what")


def test_labels_in_a_file_of_their_own(tmp_path, rows):
    found = npz(tmp_path / "x.npz", rows)
    assert read_names(found) is None
    np.save(tmp_path / "l.npy", np.arange(12))
    np.savez(tmp_path / "l.npz", labels=np.arange(12))
    (tmp_path / "l.txt").write_text("".join(f"{i}\n" for i in range(12)))
    for name in ("l.npy", "l.npz", "l.txt"):
        np.testing.assert_array_equal(read_numbers(found, tmp_path / name), np.arange(12))
    assert read_labels(found, tmp_path / "l.txt").tolist() == [str(i) for i in range(12)]


def _write(path, content):
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        np.save(path, content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "culprit"),
    [
        ("l.npy", np.arange(11), r"l.npy: holds int64 \(11,\) for 12 rows"),
        ("l.npy", np.zeros(12), "l.npy: holds float64"),
        ("l.npy", "junk", "l.npy: damaged"),
        ("l.npz", {"x": np.arange(12)}, "none of the arrays labels, identities, persons"),
        ("l.txt", "a\nb\n", r"l.txt: holds <U1 \(2,\)"),
        ("l.txt", "a\n" * 12, "l.txt: label 'a' is not the number"),
        ("l.csv", "a\n" * 12, "labels are a .npy, .npz or .txt"),
        ("l.npy", None, "l.npy: cannot read: No such file"),
    ],
)
def test_bad_labels_are_named(tmp_path, rows, name, content, culprit):
    found = npz(tmp_path / "x.npz", rows)
    with pytest.raises(InputError, match=culprit):
        read_numbers(found, _write(tmp_path / name, content))


def test_missing_labels_are_named(tmp_path, rows):
    found = npz(tmp_path / "x.npz", rows)
    with pytest.raises(InputError, match=r"x.npz: tells no identities"):
        read_labels(found)
    names = np.array(["a/0.png", *(f"{i}.png" for i in range(11))])
    found = npz(tmp_path / "y.npz", rows, names=names)
    with pytest.raises(InputError, match=r"y.npz: '0.png' lies in no folder"):
        read_labels(found)
    found = npz(tmp_path / "z.npz", rows, names=np.arange(3))
    with pytest.raises(InputError, match=r"z.npz: 'names': holds int64 \(3,\)"):
        read_names(found)


def test_bad_embeddings_are_named(tmp_path, rows):
    rows[4, 2] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    with pytest.raises(InputError, match=r"nan.npy: 1 of 12 rows are NaN .* row 4"):
        open_embedding_set(tmp_path / "nan.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds neither embeddings\.npy nor"):
        open_embedding_set(tmp_path / "empty")

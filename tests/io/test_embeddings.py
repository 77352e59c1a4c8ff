import errno
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.io import embeddings as module
from hyperface_jax.io import files
from hyperface_jax.io.embedding_sets import open_embedding_set, read_names
from hyperface_jax.io.embeddings import (
    check_same_dim,
    read_embeddings,
    read_points,
    write_embeddings,
)

safetensors = pytest.importorskip("safetensors.numpy")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
torch = pytest.importorskip("torch")

N, D = 30, 8


@pytest.fixture
def points():
    return np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)


def unit(x):
    x = np.asarray(x, np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def write_npy(path, x):
    np.save(path, x)


def write_npz(path, x):
    np.savez(path, embeddings=x, labels=np.arange(len(x)))


def write_npz_alone(path, x):
    np.savez_compressed(path, anything=x)


def write_safetensors(path, x):
    safetensors.save_file({"points": x, "labels": np.arange(len(x))}, path)


def write_parquet_lists(path, x):
    kind = pa.list_(pa.from_numpy_dtype(x.dtype))
    table = pa.table({"label": np.arange(len(x)), "embedding": pa.array(list(x), kind)})
    parquet.write_table(table, path, row_group_size=7)


def write_parquet_fixed(path, x):
    values = pa.array(x.reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, x.shape[1])
    parquet.write_table(pa.table({"embeddings": lists}), path)


def write_parquet_tensor(path, x):
    parquet.write_table(pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(x)}), path)


def write_parquet_columns(path, x):
    names = ["x", "y", *(f"d{i}" for i in range(2, x.shape[1]))]
    table = {name: x[:, i] for i, name in enumerate(names)}
    parquet.write_table(pa.table({**table, "__index_level_0__": np.arange(len(x))}), path)


WRITERS = {
    "npy": write_npy,
    "npz": write_npz,
    "alone.npz": write_npz_alone,
    "safetensors": write_safetensors,
    "lists.parquet": write_parquet_lists,
    "fixed.parquet": write_parquet_fixed,
    "tensor.parquet": write_parquet_tensor,
    "columns.parquet": write_parquet_columns,
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_unit_rows(tmp_path, points, kind, dtype):
    path = tmp_path / f"faces.{kind}"
    stored = points.astype(dtype)
    WRITERS[kind](path, stored)
    result = read_embeddings(path)
    assert result.points.dtype == np.float32
    assert result.points.flags.c_contiguous
    assert result.points.flags.owndata
    np.testing.assert_allclose(result.points, unit(stored), rtol=0, atol=1e-7)
    assert (result.num_points, result.dim, result.num_duplicates) == (N, D, 0)
    assert result.path == path
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    raw = read_points(path)
    assert raw.dtype == dtype
    np.testing.assert_array_equal(raw, stored)


def test_bfloat16_safetensors(tmp_path, points):
    path = tmp_path / "faces.safetensors"
    stored = points.astype(ml_dtypes.bfloat16)
    safetensors.save_file({"x": stored}, path)
    np.testing.assert_array_equal(read_points(path), stored.astype(np.float32))
    np.testing.assert_allclose(read_embeddings(path).points, unit(stored), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", WRITERS)
def test_unit_float32_rows_come_back_bit_for_bit(tmp_path, points, kind):
    path = tmp_path / f"faces.{kind}"
    # Lengths off by less than the tolerance: normalizing again would change the bits.
    stored = (unit(points) * (1 + np.linspace(-8e-7, 8e-7, N))[:, None]).astype(np.float32)
    assert (unit(stored) != stored).any()
    WRITERS[kind](path, stored)
    assert read_embeddings(path).points.tobytes() == stored.tobytes()


def test_only_rows_off_unit_length_are_scaled(tmp_path, points):
    stored = unit(points)
    stored[3] *= 2
    stored[5] *= 1 + 3e-6
    write_npy(tmp_path / "x.npy", stored)
    result = read_embeddings(tmp_path / "x.npy").points
    untouched = np.setdiff1d(np.arange(N), [3, 5])
    assert result[untouched].tobytes() == stored[untouched].tobytes()
    np.testing.assert_allclose(np.linalg.norm(result[[3, 5]], axis=1), 1, rtol=0, atol=2e-7)


def test_reading_is_the_inverse_of_writing(tmp_path, points):
    write_embeddings(tmp_path / "a.npy", points)
    first = read_embeddings(tmp_path / "a.npy")
    write_embeddings(tmp_path / "b.npy", first.points)
    assert read_embeddings(tmp_path / "b.npy").points.tobytes() == first.points.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f2"])
def test_byte_and_memory_order_do_not_matter(tmp_path, points, dtype, order):
    stored = np.asarray(points, dtype, order=order)
    write_npy(tmp_path / "x.npy", stored)
    np.testing.assert_allclose(
        read_embeddings(tmp_path / "x.npy").points, unit(stored), rtol=0, atol=1e-7
    )


def test_blocks_agree_with_one_pass(tmp_path, points, monkeypatch):
    write_npy(tmp_path / "x.npy", points)
    whole = read_embeddings(tmp_path / "x.npy").points
    monkeypatch.setattr(module, "_BLOCK_BYTES", 8 * D * 7)
    assert read_embeddings(tmp_path / "x.npy").points.tobytes() == whole.tobytes()
    points[23, 4] = np.nan
    write_npy(tmp_path / "x.npy", points)
    with pytest.raises(InputError, match="1 of 30 rows are NaN or infinite, the first is row 23"):
        read_embeddings(tmp_path / "x.npy")


def test_lengths_neither_under_nor_overflow(tmp_path):
    rows = np.array([[3e-200, 4e-200], [3e200, 4e200], [5e-324, 0.0]])
    write_npy(tmp_path / "x.npy", rows)
    expected = np.array([[0.6, 0.8], [0.6, 0.8], [1, 0]], np.float32)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "x.npy").points, expected)


def test_duplicates_are_directions(tmp_path):
    rows = np.array([[1, 0], [2, 0], [0, 1], [1, -0.0], [-1, 0], [0, 3]], np.float32)
    write_npy(tmp_path / "x.npy", rows)
    assert read_embeddings(tmp_path / "x.npy").num_duplicates == 3


def test_the_digest_follows_the_content(tmp_path, points):
    for name, x in (("a", points), ("b", points), ("c", points[::-1])):
        write_npy(tmp_path / f"{name}.npy", x)
    a, b, c = (read_embeddings(tmp_path / f"{name}.npy").sha256 for name in "abc")
    assert a == b != c


def test_extension_case_is_ignored(tmp_path, points):
    write_npy(tmp_path / "x.npy", points)
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    assert read_embeddings(tmp_path / "X.NPY").num_points == N


@pytest.mark.parametrize("kind", ["npz", "safetensors", "lists.parquet"])
def test_key_chooses_or_names_what_there_is(tmp_path, points, kind):
    path = tmp_path / f"faces.{kind}"
    WRITERS[kind](path, points)
    with pytest.raises(InputError, match=r"'missing'; choose the key among: .*label"):
        read_embeddings(path, key="missing")
    labels = "label" if kind == "lists.parquet" else "labels"
    with pytest.raises(InputError, match=r"float"):
        read_embeddings(path, key=labels)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet"])
def test_a_key_after_a_colon_chooses_an_array(tmp_path, points, kind):
    path = tmp_path / f"two.{kind}"
    arrays = {"first": points, "a:b": 2 * points[:5]}
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        safetensors.save_file(arrays, path)
    else:
        columns = {name: pa.array(list(np.resize(x, (N, D)))) for name, x in arrays.items()}
        parquet.write_table(pa.table(columns), path)
    with pytest.raises(
        InputError, match=r"which (array|column)\? give a key as in FILE:KEY, one of"
    ):
        read_embeddings(path)
    first, second = (read_embeddings(f"{path}:{key}") for key in arrays)
    np.testing.assert_allclose(first.points, unit(points), rtol=0, atol=1e-7)
    np.testing.assert_allclose(second.points[:5], unit(points[:5]), rtol=0, atol=1e-7)
    assert first.sha256 != second.sha256
    assert second.sha256 == read_embeddings(path, key="a:b").sha256
    np.testing.assert_array_equal(read_points(second.path)[:5], 2 * points[:5])
    with pytest.raises(
        InputError, match=r"two\.\w+:c: no \w+ 'c'; choose the key among: .*'first'"
    ):
        read_embeddings(f"{path}:c")


def test_a_colon_may_stand_in_a_name(tmp_path, points):
    np.save(tmp_path / "a:b.npy", points)
    np.savez(tmp_path / "a:b.npz", one=points, two=points[:4])
    assert read_embeddings(tmp_path / "a:b.npy").num_points == N
    assert read_embeddings(tmp_path / "a:b.npz:two").num_points == 4
    with pytest.raises(InputError, match=r"a:b.npy:x: a .npy file holds one array"):
        read_embeddings(tmp_path / "a:b.npy:x")
    with pytest.raises(InputError, match=r"nowhere.npz:x: cannot read: No such file"):
        read_embeddings(tmp_path / "nowhere.npz:x")


def test_well_known_keys_in_order(tmp_path, points):
    np.savez(tmp_path / "x.npz", x=points[:1], points=points[:2], embeddings=points[:3])
    assert read_embeddings(tmp_path / "x.npz").num_points == 3
    assert read_embeddings(tmp_path / "x.npz", key="x").num_points == 1
    np.savez(tmp_path / "y.npz", a=points, b=points)
    with pytest.raises(InputError, match=r"which array.*'a', 'b'"):
        read_embeddings(tmp_path / "y.npz")


def spoil(value, row=4):
    def change(x):
        x = x.copy()
        x[row] = value
        return x

    return change


BAD_ARRAYS = {
    "nan": (spoil(np.nan), "1 of 30 rows are NaN or infinite, the first is row 4"),
    "inf": (lambda x: spoil(np.inf, 9)(spoil(-np.inf, 6)(x)), "2 of 30 .* the first is row 6"),
    "zero": (spoil(0), "1 of 30 rows are zero, the first is row 4"),
    "integer": (lambda x: (x * 100).astype(np.int32), "int32.*float32"),
    "bool": (lambda x: x > 0, "bool.*float32"),
    "complex": (lambda x: x.astype(np.complex64), "complex64.*float32"),
    "bfloat16 as void": (lambda x: x.astype(ml_dtypes.bfloat16), "bfloat16.*float32"),
    "vector": (lambda x: x[0], r"shape \(8,\).*\[n, d\]"),
    "cube": (lambda x: x.reshape(5, 6, 8), r"shape \(5, 6, 8\).*\[n, d\]"),
    "no rows": (lambda x: x[:0], "is empty"),
    "no columns": (lambda x: x[:, :0], "is empty"),
    "one column": (lambda x: x[:, :1], "dimension 1"),
    "pickled": (lambda x: x.astype(object), "pickled"),
}


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(tmp_path, points, case, kind):
    change, message = BAD_ARRAYS[case]
    path = tmp_path / f"faces.{kind}"
    WRITERS[kind](path, change(points))
    assert_one_line(path, message)


def assert_one_line(path, message, **settings):
    with pytest.raises(InputError) as caught:
        read_embeddings(path, **settings)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{files.one_line(path)}: ")
    problem = text.removeprefix(f"{files.one_line(path)}: ")
    assert re.search(message, problem)
    return problem


def lists(rows, kind=None):
    return pa.table({"embedding": pa.array(rows, kind or pa.list_(pa.float32()))})


BAD_TABLES = {
    "ragged": (lambda: lists([[1, 2], [3, 4], [5]]), "row 2 is 1 long, row 0 is 2 long"),
    "missing first": (lambda: lists([None, [3, 4]]), "row 0 is missing"),
    "missing later": (lambda: lists([[3, 4], None]), "row 1 is missing"),
    "missing value": (lambda: lists([[3, 4], [None, 1]]), "1 of 2 rows are NaN"),
    "no rows": (lambda: lists([]), "is empty"),
    "empty rows": (lambda: lists([[], []]), "is empty"),
    "integers": (lambda: lists([[1, 2]], pa.list_(pa.int64())), "'embedding' holds list<.*int64"),
    "nested": (lambda: lists([[[1.0]]], pa.list_(pa.list_(pa.float32()))), "'embedding' holds"),
    "text": (lambda: pa.table({"a": ["x"], "b": ["y"]}), "'a' holds string"),
    "integer dims": (lambda: pa.table({"a": [1.0], "b": [2]}), "'b' holds int64"),
    "two lists": (
        lambda: pa.table({"u": [[1.0, 2.0]], "v": [[1.0, 2.0]]}),
        "which column.*'u', 'v'",
    ),
    "no columns": (lambda: pa.table({}), "which column"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(tmp_path, case):
    make, message = BAD_TABLES[case]
    parquet.write_table(make(), tmp_path / "faces.parquet")
    assert_one_line(tmp_path / "faces.parquet", message)


def test_safetensors_with_other_types(tmp_path, points):
    safetensors.save_file({"x": points.astype(ml_dtypes.float8_e4m3fn)}, tmp_path / "a.safetensors")
    assert_one_line(tmp_path / "a.safetensors", "F8_E4M3.*F32")


@pytest.mark.parametrize("kind", WRITERS)
def test_truncation_at_any_place(tmp_path, points, kind):
    whole, path = tmp_path / f"whole.{kind}", tmp_path / f"faces.{kind}"
    WRITERS[kind](whole, points)
    content = whole.read_bytes()
    for size in [0, 1, 4, 9, 20, *range(60, len(content) - 1, len(content) // 12)]:
        path.write_bytes(content[:size])
        assert_one_line(path, "truncated or damaged|beginning is lost|is empty")


def test_damage_never_escapes_as_another_error(tmp_path, points):
    generator = np.random.default_rng(1)
    refused = 0
    for kind, write in WRITERS.items():
        path = tmp_path / f"faces.{kind}"
        write(path, points)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            damaged = content.copy()
            where = generator.integers(0, min(len(content), 300), 4)
            damaged[where] = generator.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            try:
                read_embeddings(path)
            except InputError as error:
                refused += len(str(error).splitlines())
    assert refused > 100


def test_content_is_checked_against_the_extension(tmp_path, points):
    write_npy(tmp_path / "a.npy", points)
    for name in ("a.npz", "a.parquet", "a.safetensors", "a.bin", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.npy").read_bytes())
        assert_one_line(tmp_path / name, r"the content is \.npy; rename")
    (tmp_path / "notes.npy").write_text("hello, this is text")
    assert_one_line(tmp_path / "notes.npy", r"the content is not \.npy")
    (tmp_path / "face.jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture")
    assert_one_line(tmp_path / "face.jpg", "not an embedding file; save the array as .npy")
    np.savez(tmp_path / "b.npz", points)
    (tmp_path / "b.npz").rename(tmp_path / "model.pt")
    assert_one_line(tmp_path / "model.pt", r"the content is \.npz; rename")
    (tmp_path / "b.ckpt").write_bytes((tmp_path / "model.pt").read_bytes())
    assert_one_line(tmp_path / "b.ckpt", "not an embedding file")


def test_contexts_of_idiff_face(tmp_path, points):
    """A dictionary of vectors that torch.save wrote to a .npy, as its scripts do."""
    path = tmp_path / "random_synthetic_uniform_5.npy"
    rows = points[:5].astype(np.float32)
    names = [str(i) for i in range(5)]
    for wrap in (lambda x: x, torch.from_numpy, lambda x: x[None], lambda x: x.astype(np.float64)):
        torch.save({name: wrap(row) for name, row in zip(names, rows, strict=True)}, path)
        np.testing.assert_array_equal(read_points(path), rows)
        assert read_names(open_embedding_set(path)).tolist() == names
    assert read_embeddings(path).num_points == 5


def test_matrices_that_torch_saved(tmp_path, points):
    torch.save(torch.from_numpy(points), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_points(tmp_path / "a.pt"), points)
    assert read_names(open_embedding_set(tmp_path / "a.pt")) is None
    torch.save({"one": points, "two": 2 * points}, tmp_path / "b.pth")
    np.testing.assert_array_equal(read_points(f"{tmp_path}/b.pth:two"), 2 * points)
    assert_one_line(tmp_path / "b.pth", "which array?.*'one', 'two'")


class _Harm:
    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"0": _Harm()}, "refused, as it names __builtin__.print"),
        ({"0": np.ones(4), "1": np.ones(5)}, "'1' is 5 long, the first vector is 4 long"),
        ({"0": "text"}, "holds no dictionary of tensors or arrays"),
        ({}, "holds no dictionary of tensors or arrays"),
        ({"0": np.array(["a", "b"])}, "truncated or damaged.*an array of type"),
    ],
)
def test_bad_contexts(tmp_path, content, words, capsys):
    torch.save(content, tmp_path / "contexts.npy")
    assert_one_line(tmp_path / "contexts.npy", words)
    assert not capsys.readouterr().out


def test_paths_that_are_not_files(tmp_path):
    assert_one_line(tmp_path / "missing.npy", "No such file.*check the path")
    (tmp_path / "folder.npy").mkdir()
    assert_one_line(tmp_path / "folder.npy", "is a directory")
    os.mkfifo(tmp_path / "pipe.npy")
    assert_one_line(tmp_path / "pipe.npy", "not a regular file")
    assert_one_line(tmp_path / "two\nlines.npy", "cannot read")


def test_a_missing_library_names_the_extra(tmp_path, points, monkeypatch):
    for kind, library in (("safetensors", "safetensors"), ("lists.parquet", "pyarrow.parquet")):
        path = tmp_path / f"faces.{kind}"
        WRITERS[kind](path, points)
        monkeypatch.setitem(sys.modules, library, None)
        assert "pip install '.[cli]' in a checkout" in assert_one_line(path, library.split(".")[0])


def test_check_same_dim(tmp_path, points):
    write_npy(tmp_path / "a.npy", points)
    write_npy(tmp_path / "b.npy", points[:, :5])
    a, b = read_embeddings(tmp_path / "a.npy"), read_embeddings(tmp_path / "b.npy")
    assert check_same_dim(a, a) == check_same_dim(a, dim=D) == check_same_dim(dim=D) == D
    with pytest.raises(InputError, match=r"b\.npy: rows have dimension 5, not 8 as in .*a\.npy"):
        check_same_dim(a, b)
    with pytest.raises(InputError, match=r"b\.npy: rows have dimension 5, not 8 as in the setting"):
        check_same_dim(b, dim=D)
    with pytest.raises(InputError, match="no dimension"):
        check_same_dim()


def test_write_embeddings_refuses_what_it_would_not_read(tmp_path, points):
    for path, x, message in (
        (tmp_path / "x.npz", points, "end the name in .npy"),
        (tmp_path / "x.npy", spoil(np.nan)(points), "NaN"),
        (tmp_path / "x.npy", points[0], "shape"),
        (tmp_path / "x.npy", points.astype(int), "int64"),
    ):
        with pytest.raises(InputError, match=message):
            write_embeddings(path, x)
    assert list(tmp_path.iterdir()) == []


def test_write_embeddings_keeps_the_precision(tmp_path, points):
    for dtype, expected in ((np.float64, np.float64), (ml_dtypes.bfloat16, np.float32)):
        write_embeddings(tmp_path / "x.npy", points.astype(dtype))
        result = np.load(tmp_path / "x.npy")
        assert result.dtype == expected
        np.testing.assert_array_equal(result, points.astype(dtype).astype(expected))


# Files


ATOMIC = {
    "bytes": lambda path: files.atomic_write_bytes(path, b"x" * 200_000),
    "text": lambda path: files.atomic_write_text(path, "x" * 200_000),
    "json": lambda path: files.atomic_write_json(path, {"a": "x" * 200_000}),
    "jsonl": lambda path: files.atomic_write_jsonl(path, [{"a": "x" * 200_000}]),
    "npy": lambda path: files.atomic_save_npy(path, np.zeros(200_000)),
    "npz": lambda path: files.atomic_save_npz(path, a=np.zeros(200_000)),
}


@pytest.fixture
def small_disc():
    """Let files grow to 100 kB only: writes fail half-way, as on a full disc."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", ATOMIC)
def test_a_failed_write_leaves_the_old_file(tmp_path, kind, small_disc):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(InputError, match=r"out: cannot write: File too large; raise") as caught:
        ATOMIC[kind](path)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ATOMIC)
def test_bad_targets(tmp_path, kind):
    with pytest.raises(InputError, match=r"none/out: cannot write: No such .*create its folder"):
        ATOMIC[kind](tmp_path / "none" / "out")
    with pytest.raises(InputError, match=r"cannot write: Is a directory; name a file inside"):
        ATOMIC[kind](tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write: Not a directory; one of the parents"):
        ATOMIC[kind](tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions"), (errno.EIO, "the disc")],
)
def test_system_errors_are_explained(tmp_path, monkeypatch, number, mend):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=rf"out: cannot write: {os.strerror(number)}; .*{mend}"):
        files.atomic_write_bytes(tmp_path / "out", b"x")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write_bytes(tmp_path / "out", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    files.atomic_write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3),
        np.zeros((0, 4)),
        np.arange(6).reshape(2, 3)[:, ::-1],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
)
def test_arrays_round_trip(tmp_path, array):
    files.atomic_save_npy(tmp_path / "a.npy", array)
    files.atomic_save_npz(tmp_path / "a.npz", name=array)
    for result in (np.load(tmp_path / "a.npy"), np.load(tmp_path / "a.npz")["name"]):
        assert (result.shape, result.dtype) == (np.shape(array), np.asarray(array).dtype)
        np.testing.assert_array_equal(result, array)


def test_objects_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.npy: cannot write objects"):
        files.atomic_save_npy(tmp_path / "a.npy", np.array([{}]))
    with pytest.raises(InputError, match=r"a\.npz: 'b' holds objects"):
        files.atomic_save_npz(tmp_path / "a.npz", a=np.zeros(2), b=np.array([{}]))
    assert list(tmp_path.iterdir()) == []


def test_json_values_are_made_plain(tmp_path):
    value = {
        "scalar": np.float32(0.5),
        "count": np.int64(3),
        "array": np.array([1.0, np.nan]),
        "infinite": float("inf"),
        "path": tmp_path / "caf\udce9",
        "nested": [{"ü": (1, None, True)}],
    }
    files.atomic_write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == {
        "scalar": 0.5,
        "count": 3,
        "array": [1.0, None],
        "infinite": None,
        "path": str(tmp_path / "caf\udce9"),
        "nested": [{"ü": [1, None, True]}],
    }
    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    with pytest.raises(TypeError):
        files.atomic_write_json(tmp_path / "b.json", {"a": object()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b" 2}', "not JSON at line 2, column 6"),
        (b"", "not JSON at line 1"),
        (b"[1, 2]", "holds a JSON list; an object"),
        (b'{"a": "\xff"}', "not JSON: 'utf-8'"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_bad_json(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: {message}") as caught:
        files.read_json(tmp_path / "a.json")
    assert len(str(caught.value).splitlines()) == 1


def test_missing_json(tmp_path):
    for read in (files.read_json, files.read_jsonl):
        with pytest.raises(InputError, match=r"none: cannot read: No such file"):
            read(tmp_path / "none")


TORN = [b"", b'{"ste', b'{"step": 2, "x": 0.', b"\x00\x00\x00", b'"text"']


@pytest.mark.parametrize("torn", TORN)
def test_a_torn_last_line_is_skipped_and_mended(tmp_path, torn):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1}\n' + torn)
    assert files.read_jsonl(path) == [{"step": 0}, {"step": 1}]
    with files.JsonLines(path) as log:
        log.append({"step": 2, "x": np.float32(0.5)})
    assert path.read_bytes() == b'{"step": 0}\n{"step": 1}\n{"step": 2, "x": 0.5}\n'


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1}')
    assert files.read_jsonl(path) == [{"step": 0}, {"step": 1}]
    with files.JsonLines(path) as log:
        log.append({"step": 2})
    assert files.read_jsonl(path) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_bad_line_that_is_not_the_last_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"step": 0}\n{"ste\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"a\.jsonl: line 2 is not a JSON object; remove"):
        files.read_jsonl(tmp_path / "a.jsonl")


def test_rows_can_be_rewritten_and_continued(tmp_path):
    path = tmp_path / "history.jsonl"
    files.atomic_write_jsonl(path, ({"step": step} for step in range(3)))
    with files.JsonLines(path) as log:
        log.append({"step": 3})
        assert files.read_jsonl(path) == [{"step": step} for step in range(4)]


def test_a_full_disc_leaves_whole_rows(tmp_path, small_disc):
    log = files.JsonLines(tmp_path / "a.jsonl")
    for step in range(3):
        log.append({"step": step, "text": "x" * 30_000})
    with pytest.raises(InputError, match=r"a\.jsonl: cannot write: File too large"):
        log.append({"step": 3, "text": "x" * 30_000})
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content.endswith(b"}\n")
    log.append({"step": "a short row fits"})
    log.close()
    log.close()
    assert files.read_jsonl(tmp_path / "a.jsonl")[-1] == {"step": "a short row fits"}


def test_rows_outlive_a_kill(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from hyperface_jax.io.files import JsonLines\n"
        "log = JsonLines(sys.argv[1])\n"
        "for step in range(50): log.append({'step': step})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "a.jsonl"
    result = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert result.returncode == -signal.SIGKILL
    assert files.read_jsonl(path) == [{"step": step} for step in range(50)]

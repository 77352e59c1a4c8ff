import io
import itertools
import json
import pickle
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.faces import open_images
from hyperface_jax.io import images
from hyperface_jax.io.recordio import write_array_record, write_recordio
from hyperface_jax.recognition import data
from hyperface_jax.recognition.augment import Augmentation
from hyperface_jax.recognition.data import make_loader
from hyperface_jax.recognition.labeled import summary
from hyperface_jax.recognition.sources import (
    ArrayRecords,
    ImageFolder,
    LmdbRecords,
    Records,
    TarShards,
    open_source,
)

SIZE = 8
COUNTS = [3, 1, 4, 2, 5]
N = sum(COUNTS)
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)
ALL = Augmentation(0.5, 0.5, 0.5, 0.5)


def _image(index):
    """Encode an image that tells its index by its red, and red from blue."""
    return images.encode(np.zeros((SIZE, SIZE, 3), np.uint8) + np.array([index, 7, 255], np.uint8))


SAMPLES = [(_image(i), int(label)) for i, label in enumerate(LABELS)]


def _write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _write_folder(path, samples=SAMPLES):
    for i, (image, label) in enumerate(samples):
        folder = path / f"id_{label:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:03}.png").write_bytes(image)


def _write_shards(path):
    path.mkdir()
    members = [
        member
        for i, (image, label) in enumerate(SAMPLES)
        for member in [(f"a/{i:03}.png", image), (f"a/{i:03}.cls", str(label).encode())]
    ]
    _write_tar(path / "train-000.tar", members[:14])
    _write_tar(path / "train-001.tar", members[14:])


def _write_array_records(path):
    path.mkdir()
    write_array_record(path / "a.array_record", SAMPLES[:6])
    write_array_record(path / "b.array_record", SAMPLES[6:])


def _write_records(path):
    path.mkdir()
    write_recordio(path / "train.rec", SAMPLES)


def _write_lmdb(path, samples=SAMPLES, feature=None, changes=()):
    """Write an LMDB with the calls of the scripts that HSFace and VFace were made with."""
    lmdb, msgpack = pytest.importorskip("lmdb"), pytest.importorskip("msgpack")
    path.mkdir(exist_ok=True)
    more = () if feature is None else (feature,)
    keys = [f"{i}".encode("ascii") for i in range(len(samples))]
    values = [msgpack.dumps((image, *more, label)) for image, label in samples]
    stored = dict(zip(keys, values, strict=True))
    stored[b"__keys__"] = msgpack.dumps(keys)
    stored[b"__len__"] = msgpack.dumps(len(keys))
    stored[b"__classnum__"] = msgpack.dumps(len(COUNTS))
    with lmdb.open(str(path / "set.lmdb"), subdir=False, map_size=1 << 20) as database:
        for key, value in {**stored, **dict(changes)}.items():
            with database.begin(write=True) as transaction:
                if value is None:
                    transaction.delete(key)
                else:
                    transaction.put(key, value)


FORMATS = {
    ImageFolder: _write_folder,
    TarShards: _write_shards,
    ArrayRecords: _write_array_records,
    Records: _write_records,
    LmdbRecords: _write_lmdb,
}


@pytest.fixture(params=FORMATS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def root(tmp_path, kind):
    FORMATS[kind](tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def source(tmp_path):
    _write_folder(tmp_path / "faces")
    return ImageFolder(tmp_path / "faces")


def test_every_format_gives_the_same_samples(root, kind):
    source = open_source(root)
    assert type(source) is kind
    assert [source[i] for i in range(len(source))] == SAMPLES
    assert source.num_classes == len(COUNTS)
    assert source.labels.dtype == np.int32
    np.testing.assert_array_equal(source.labels, LABELS)
    assert len({source.name(i) for i in range(N)}) == N


@pytest.mark.parametrize("feature", [b"\x93NUMPY feature", [0.5, 1.5]])
def test_an_lmdb_with_a_feature_between_image_and_label(tmp_path, feature):
    _write_lmdb(tmp_path, feature=feature)
    source = open_source(tmp_path / "set.lmdb")
    assert [source[i] for i in range(N)] == SAMPLES


def test_an_lmdb_in_a_folder_of_its_own(tmp_path):
    _write_lmdb(tmp_path)
    folder = tmp_path / "train"
    folder.mkdir()
    (tmp_path / "set.lmdb").rename(folder / "data.mdb")
    (folder / "lock.mdb").write_bytes(b"")
    assert open_source(folder)[0] == SAMPLES[0]


def test_the_images_of_an_lmdb_are_named_by_identity(tmp_path):
    _write_lmdb(tmp_path)
    found = open_images(tmp_path / "set.lmdb")
    assert found.names == [f"{label}/{i}" for i, (_, label) in enumerate(SAMPLES)]
    assert [found.read(i) for i in range(N)] == [image for image, _ in SAMPLES]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({b"__keys__": None}, "there is no __keys__; give an LMDB with __keys__"),
        ({b"__len__": b"\x01"}, "__len__ is 1 and __keys__ lists 15; copy it again"),
        ({b"__keys__": b"\x01"}, "__keys__ is no list of keys"),
        ({b"3": None}, "there is no 3"),
        ({b"3": b"\x92\xc4"}, "3 is no whole msgpack"),
        ({b"3": b"\x91\xc4\x01a"}, r"record 3 is not msgpack \[image, identity\]"),
    ],
)
def test_a_bad_lmdb_is_refused_in_one_line(tmp_path, changes, words):
    _write_lmdb(tmp_path, changes=changes)
    with pytest.raises(InputError, match=words) as caught:
        open_source(tmp_path / "set.lmdb")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_an_lmdb_that_is_cut_off_does_not_kill_the_process(tmp_path, size):
    _write_lmdb(tmp_path, [(image + bytes(9000), label) for image, label in SAMPLES])
    whole = (tmp_path / "set.lmdb").read_bytes()
    (tmp_path / "cut.lmdb").write_bytes(whole[:size])
    with pytest.raises(
        InputError, match=r"cut\.lmdb: (is cut off|cannot be read as LMDB).*copy it again"
    ):
        open_source(tmp_path / "cut.lmdb")


def test_lmdb_needs_its_library(tmp_path, monkeypatch):
    (tmp_path / "set.lmdb").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"needs lmdb; pip install '\.\[lmdb\]' in a checkout"):
        open_source(tmp_path / "set.lmdb")


def test_a_source_goes_to_another_process_by_pickle(root):
    source = open_source(root)
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in range(N)] == SAMPLES


def test_the_fingerprint_is_of_the_content_not_the_place(root, kind, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    other = [*SAMPLES[:-1], (SAMPLES[-1][0] + b"more", SAMPLES[-1][1])]
    _write_folder(tmp_path / "other", other)
    fingerprint = open_source(root).fingerprint
    assert open_source(tmp_path / "copy").fingerprint == fingerprint
    assert open_source(tmp_path / "other").fingerprint != fingerprint


def test_identities_with_one_image_are_counted(root):
    assert summary(open_source(root)) == {
        "num_images": N,
        "num_classes": len(COUNTS),
        "num_single_image_classes": 1,
    }


def test_other_files_and_hidden_ones_are_no_images(tmp_path):
    _write_folder(tmp_path)
    for name in ("notes.txt", ".hidden/0.png", "id_00/.0.png", "id_00/list.csv", "empty/list.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [image for image, _ in map(ImageFolder(tmp_path).__getitem__, range(N))] == [
        image for image, _ in SAMPLES
    ]


def test_images_that_are_not_read_are_listed(tmp_path):
    _write_folder(tmp_path)
    names = ("top.png", "id_00/session1/a.png", ".hidden/0.png", "id_00/list.csv")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "id_01" / "subject.happy").write_bytes(SAMPLES[0][0])
    source = open_source(tmp_path)
    assert len(source) == N + 1
    assert [name for name, _ in source.skipped] == sorted(names)
    reasons = dict(source.skipped)
    assert "beside the folders" in reasons["top.png"]
    assert "deeper than IDENTITY/IMAGE" in reasons["id_00/session1/a.png"]
    assert pickle.loads(pickle.dumps(source)).skipped == ()


def test_a_folder_of_deeper_images_alone_is_refused_with_the_reason(tmp_path):
    _write_folder(tmp_path / "train")
    with pytest.raises(InputError, match=rf"no images.*{N} are deeper than IDENTITY/IMAGE"):
        open_source(tmp_path)


def test_labels_without_images_and_files_beside_shards_are_listed(tmp_path):
    _write_tar(
        tmp_path / "a.tar", [("0.png", b"x"), ("0.cls", b"1"), ("1.avif", b"y"), ("1.cls", b"2")]
    )
    (tmp_path / "id_00").mkdir()
    source = open_source(tmp_path)
    assert len(source) == 1
    assert [Path(name).name for name, _ in source.skipped] == ["id_00", "1"]


def test_folder_names_are_kept_as_the_names_of_the_classes(source):
    assert list(source.classes) == ["id_00", "id_01", "id_02", "id_03", "id_04"]


@pytest.mark.parametrize("labels", [[30, 10, 20, 10], [9, 2, 4, 2]])
def test_labels_with_gaps_are_numbered_anew_and_the_table_is_kept(tmp_path, labels):
    write_array_record(tmp_path / "a.array_record", [(b"", label) for label in labels])
    source = open_source(tmp_path)
    assert set(source.labels) == set(range(3))
    np.testing.assert_array_equal(source.classes[source.labels], labels)
    assert list(source.classes) == sorted(set(labels))


def test_negative_labels_are_an_error(tmp_path):
    write_array_record(tmp_path / "a.array_record", [(b"", 0), (b"", -1)])
    with pytest.raises(InputError, match="label -1 of sample 1 is negative"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("identities", "classes"),
    [([10, 9], [9, 10]), (["b", "a"], ["a", "b"]), ([2, "x"], ["2", "x"])],
)
def test_shards_take_identities_from_json(tmp_path, identities, classes):
    members = [
        member
        for key, identity in zip("pq", identities, strict=True)
        for member in [
            (f"{key}.json", json.dumps({"identity": identity, "more": 1}).encode()),
            (f"{key}.jpg", key.encode()),
            (f"{key}.txt", b"passed over"),
        ]
    ]
    _write_tar(tmp_path / "a.tar", members)
    source = open_source(tmp_path / "a.tar")
    assert list(source.classes) == classes
    assert [source.classes[source[i].label] for i in range(2)] == list(
        map(type(classes[0]), identities)
    )


def test_a_pattern_names_shards(tmp_path):
    _write_shards(tmp_path / "set")
    assert len(open_source(f"{tmp_path}/set/train-{{000..001}}.tar")) == N
    assert len(open_source(f"{tmp_path}/{{set}}/train-{{000,001}}.tar")) == N
    with pytest.raises(InputError, match=r"train-002\.tar: cannot read"):
        open_source(f"{tmp_path}/set/train-{{000..002}}.tar")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.jpg", b"")], r"a\.jpg has no label; add a\.cls"),
        ([("a.jpg", b""), ("a.json", b'{"age": 3}')], r"a\.jpg has no label"),
        ([("a.jpg", b""), ("a.cls", b"x")], r"a\.cls holds no label"),
        ([("a.jpg", b""), ("a.json", b"[1]")], r"a\.json holds no label"),
        ([("a.jpg", b""), ("a.png", b""), ("a.cls", b"1")], r"a\.png has the key of a\.jpg"),
        ([("a.cls", b"1")], "no images"),
    ],
)
def test_a_shard_without_proper_labels_is_an_error(tmp_path, members, reason):
    _write_tar(tmp_path / "s.tar", members)
    with pytest.raises(InputError, match=rf"s\.tar: {reason}"):
        open_source(tmp_path / "s.tar")


@pytest.mark.parametrize("keep", [700, 100, 0])
def test_a_shard_cut_short_is_an_error(tmp_path, keep):
    _write_tar(tmp_path / "s.tar", [("a.cls", b"1"), ("a.jpg", bytes(5000))])
    (tmp_path / "s.tar").write_bytes((tmp_path / "s.tar").read_bytes()[: keep * 3])
    with pytest.raises(InputError, match=r"s\.tar: not a whole, uncompressed tar file"):
        open_source(tmp_path / "s.tar")


def test_a_compressed_shard_is_an_error(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w:gz"):
        pass
    with pytest.raises(InputError, match=r"s\.tar: not a whole, uncompressed tar file"):
        open_source(tmp_path / "s.tar")


@pytest.mark.parametrize(
    ("names", "opened", "reason"),
    [
        ([], "", "no images; expected a folder"),
        (["0.png", "1.png"], "", r"no images \(2 files.* beside the folders.*; expected a folder"),
        (["id/readme.txt"], "", r"no images \(1 files.*; expected a folder"),
        ([], "missing", "there is no such file or folder; expected a folder"),
        (["faces.zip"], "faces.zip", "not training data; expected a folder"),
        (["a.tar", "a.rec"], "", r"holds a\.rec, a\.tar; name the file"),
        (["a.rec", "b.rec"], "", r"holds a\.rec, b\.rec; name the file"),
    ],
)
def test_a_path_that_fits_no_format_says_what_was_expected(tmp_path, names, opened, reason):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=reason):
        open_source(tmp_path / opened)


def _loader(source, **settings: Any):
    defaults: dict[str, Any] = {"batch_size": 4, "image_size": SIZE, "seed": 5}
    return make_loader(source, **defaults | settings)


def _indices(batches):
    """Tell which images are in uint8 RGB batches."""
    return [int(index) for batch in batches for index in batch.images[:, 0, 0, 0]]


def _assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(batch.images, other.images)
        np.testing.assert_array_equal(batch.labels, other.labels)


def test_a_batch_holds_normalized_images_and_their_labels(source):
    batch = next(_loader(source))
    assert (batch.images.shape, batch.images.dtype) == ((4, SIZE, SIZE, 3), np.float32)
    index = np.rint((batch.images[:, 0, 0, 0] * 0.5 + 0.5) * 255).astype(int)
    np.testing.assert_array_equal(batch.labels, LABELS[index])
    assert batch.labels.dtype == np.int32
    np.testing.assert_array_equal(batch.images[..., 2], 1)


def test_the_color_order_is_the_one_asked_for(source):
    rgb, bgr = (next(_loader(source, color=color)).images for color in ("rgb", "bgr"))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])
    raw = next(_loader(source, color="bgr", dtype=np.uint8)).images
    np.testing.assert_array_equal(images.normalize(raw), bgr)
    assert raw.dtype == np.uint8


def test_images_of_another_size_are_cut_square_and_scaled(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    _write_folder(tmp_path, [(images.encode(wide), label) for label in (0, 1)])
    batch = next(_loader(ImageFolder(tmp_path), batch_size=2, image_size=6, dtype=np.uint8))
    np.testing.assert_array_equal(batch.images, np.full((2, 6, 6, 3), 200))


def test_every_epoch_holds_each_image_once_in_another_order(tmp_path):
    _write_folder(tmp_path, [*SAMPLES, (_image(N), 0)])
    loader = _loader(ImageFolder(tmp_path), num_epochs=3, dtype=np.uint8)
    assert (loader.steps_per_epoch, loader.num_steps) == (4, 12)
    indices = np.reshape(_indices(loader), (3, N + 1))
    np.testing.assert_array_equal(np.sort(indices, axis=1), np.tile(np.arange(N + 1), (3, 1)))
    assert len(np.unique(indices, axis=0)) == 3


def test_the_images_that_fill_no_batch_are_others_in_each_epoch(source):
    loader = _loader(source, num_epochs=20, dtype=np.uint8)
    assert loader.steps_per_epoch == N // 4
    epochs = np.reshape(_indices(loader), (20, -1))
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert set(epochs.ravel()) == set(range(N))


def test_a_number_of_steps_ends_the_batches(source):
    assert len(list(_loader(source, num_steps=7))) == 7
    assert len(list(_loader(source, num_steps=7, num_epochs=2))) == 6
    endless = _loader(source)
    assert endless.num_steps is None
    assert len(list(itertools.islice(endless, 10))) == 10


def test_the_seed_decides_everything(source):
    first, again, other = (
        list(_loader(source, seed=seed, augmentation=ALL, num_steps=5)) for seed in (1, 1, 2)
    )
    _assert_same(first, again)
    assert np.any(first[0].labels != other[0].labels)


def test_an_image_is_augmented_anew_in_each_epoch(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    _write_folder(tmp_path, [(images.encode(noise), label) for label in (0, 1)])
    loader = _loader(ImageFolder(tmp_path), batch_size=2, augmentation=ALL, num_epochs=8)
    assert len({image.tobytes() for batch in loader for image in batch.images}) > 8


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 8])
def test_a_run_resumed_from_its_state_goes_on_bit_for_bit(source, cut):
    settings = {"augmentation": ALL, "num_epochs": 3}
    whole = _loader(source, **settings)
    before = list(itertools.islice(whole, cut))
    state = json.loads(json.dumps(whole.get_state()))
    after = list(whole)
    resumed = _loader(source, **settings)
    resumed.set_state(state)
    assert resumed.get_state() == state
    _assert_same(resumed, after)
    assert len(before) + len(after) == 9


def test_a_loader_is_set_back_to_an_earlier_state(source):
    loader = _loader(source, num_steps=6, augmentation=ALL)
    next(loader)
    state = loader.get_state()
    rest = list(loader)
    loader.set_state(state)
    _assert_same(loader, rest)


def test_workers_change_nothing_and_resume_from_a_state_made_without_them(source):
    settings = {"augmentation": ALL, "num_epochs": 3}
    alone = _loader(source, **settings)
    next(alone)
    state = alone.get_state()
    expected = list(alone)
    workers = _loader(source, num_workers=2, **settings)
    workers.set_state(state)
    batches = [next(workers) for _ in range(3)]
    _assert_same(batches, expected[:3])
    assert {type(array) for batch in batches for array in batch} == {np.ndarray}
    state = workers.get_state()
    workers.close()
    resumed = _loader(source, **settings)
    resumed.set_state(state)
    _assert_same(resumed, expected[3:])


@pytest.mark.parametrize(
    "changed", [{"seed": 6}, {"batch_size": 3}, {"shard": (0, 2)}], ids=lambda x: next(iter(x))
)
def test_a_state_of_another_run_is_refused(source, changed):
    state = _loader(source).get_state()
    with pytest.raises(InputError, match=r"data state: .* was .* and is .* now; resume with"):
        _loader(source, **changed).set_state(state)


def test_a_state_of_other_data_is_refused(source, tmp_path):
    _write_folder(tmp_path / "other", SAMPLES[:-1])
    state = _loader(source).get_state()
    with pytest.raises(InputError, match="data state: num_images was 15 and is 14 now"):
        _loader(ImageFolder(tmp_path / "other")).set_state(state)


def test_two_processes_share_out_the_batches_of_one(source):
    """Together they read what one process with twice the batch reads, augmented the same."""
    settings = {"augmentation": ALL, "num_epochs": 3, "dtype": np.uint8}
    whole = list(_loader(source, batch_size=6, **settings))
    parts = [_loader(source, batch_size=3, shard=(i, 2), **settings) for i in range(2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        together = np.stack([half.images for half in halves], axis=1)
        np.testing.assert_array_equal(together.reshape(batch.images.shape), batch.images)
        together = np.stack([half.labels for half in halves], axis=1)
        np.testing.assert_array_equal(together.ravel(), batch.labels)


def test_two_processes_read_each_image_of_an_epoch_once(tmp_path):
    _write_folder(tmp_path, SAMPLES[:12])
    settings = {"batch_size": 3, "num_epochs": 1, "dtype": np.uint8}
    parts = [_indices(_loader(ImageFolder(tmp_path), shard=(i, 2), **settings)) for i in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(12))
    assert len(parts[0]) == 6


def test_one_process_resumes_what_two_began(source):
    settings = {"augmentation": ALL, "num_epochs": 2}
    expected = list(_loader(source, batch_size=6, **settings))[1:]
    part = _loader(source, batch_size=3, shard=(1, 2), **settings)
    next(part)
    resumed = _loader(source, batch_size=6, **settings)
    resumed.set_state(part.get_state())
    _assert_same(resumed, expected)


@pytest.fixture
def spoilt(tmp_path):
    """Forty images, of which two are damaged."""
    samples = [(_image(i), i % 4) for i in range(40)]
    samples[8] = samples[8][0][:30], 0
    samples[25] = b"", 1
    _write_folder(tmp_path / "spoilt", samples)
    return ImageFolder(tmp_path / "spoilt")


def test_bad_images_are_replaced_by_the_same_others_and_listed(spoilt):
    runs = [_loader(spoilt, num_epochs=2, dtype=np.uint8) for _ in range(2)]
    batches, again = (list(run) for run in runs)
    _assert_same(batches, again)
    counts = np.bincount(_indices(batches), minlength=40)
    assert len(batches) == 20
    assert counts.sum() == 80
    bad = [i for i in range(40) if spoilt.name(i).endswith(("008.png", "025.png"))]
    assert all(counts[[8, 25]] == 0)
    assert runs[0].num_skipped == 4
    listed = runs[0].skipped()
    assert [spoilt.name(i) in line for i, line in zip(bad, listed, strict=True)] == [True, True]
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, np.array(_indices([batch])) % 4)


def test_the_account_of_bad_images_is_resumed(spoilt):
    whole = _loader(spoilt, num_epochs=1)
    list(whole)
    resumed = _loader(spoilt, num_epochs=1)
    resumed.set_state(json.loads(json.dumps(whole.get_state())))
    assert resumed.skipped() == whole.skipped()
    assert resumed.num_skipped == 2
    assert list(resumed) == []


@pytest.mark.parametrize("num_bad", [15, 40])
def test_more_than_a_tenth_of_bad_images_ends_the_run(tmp_path, num_bad):
    samples = [(b"no image" if i < num_bad else _image(i), i % 4) for i in range(40)]
    _write_folder(tmp_path, samples)
    with pytest.raises(InputError, match=r"images cannot be read, such as: .*\.png: not a whole"):
        list(_loader(ImageFolder(tmp_path), num_epochs=1))


def test_a_file_that_has_gone_is_a_bad_image(source):
    loader = _loader(source, batch_size=1, num_steps=N, dtype=np.uint8)
    Path(source.name(3)).unlink()
    assert 3 not in _indices(loader)
    assert "cannot read" in loader.skipped()[0]


@pytest.mark.parametrize("size", [2, 3, 4, 10, 21, 1000])
@pytest.mark.parametrize("index", [0, 1])
def test_replacements_are_distinct_and_start_with_the_image_itself(size, index):
    tried = data._candidates(index, size)
    assert tried[0] == index
    assert len(set(tried)) == min(size, len(tried))


def test_a_single_identity_is_an_error(tmp_path):
    _write_folder(tmp_path, [(_image(i), 0) for i in range(8)])
    with pytest.raises(InputError, match="of one identity; training needs two or more"):
        _loader(ImageFolder(tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "^batch_size: 0"),
        ({"image_size": 0}, "^image_size: 0"),
        ({"num_epochs": 0}, "^num_epochs: 0"),
        ({"num_steps": -1}, "^num_steps: -1"),
        ({"batch_size": 16}, "^batch_size: 16 on 1 processes needs 16 images, but there are 15"),
        ({"shard": (0, 4)}, "^batch_size: 4 on 4 processes needs 16 images"),
        ({"shard": (2, 2)}, "^shard: process 2 of 2"),
        ({"seed": -1}, "^seed: -1"),
        ({"seed": 1 << 32}, "^seed: 4294967296"),
        ({"num_workers": -1}, "^num_workers: -1"),
        ({"dtype": np.float64}, "^dtype: float64; use float32 or uint8"),
        ({"color": "grb"}, "^color: 'grb' is no channel order"),
    ],
)
def test_a_setting_out_of_range_is_named(source, setting, message):
    with pytest.raises(InputError, match=message):
        _loader(source, **setting)

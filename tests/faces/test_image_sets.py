import io
import tarfile

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.faces import open_images, read_landmarks
from hyperface_jax.io.image_folders import (
    CYCLE,
    HIDDEN,
    IN_TAR,
    NO_FILE,
    NO_IMAGE,
    skipped_text,
)

FILES = {
    "b/2.png": b"two",
    "b/10.JPG": b"ten",
    "a.webp": b"a",
    "z.bmp": b"z",
    "b/deep/er/x.jpeg": b"x",
    "._a.jpg": b"a resource fork",
    "list.txt": b"no image",
}
NAMES = ["a.webp", "b/10.JPG", "b/2.png", "b/deep/er/x.jpeg", "z.bmp"]
POINTS = np.arange(20.0).reshape(2, 5, 2) ** 1.5


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "faces"


def archive(folder, path, **options):
    with tarfile.open(path, "w", **options) as tar:
        tar.add(folder, ".")
    return path


@pytest.mark.parametrize("kind", ["folder", tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_folder_and_a_tar_of_it_hold_the_same_images_by_name(tmp_path, folder, kind):
    path = folder if kind == "folder" else archive(folder, tmp_path / "faces.tar", format=kind)
    images = open_images(path)
    assert images.names == NAMES
    assert [images.read(i) for i in range(5)] == [FILES[name] for name in NAMES]


def test_a_folder_of_shards_holds_their_images_in_the_order_of_the_shards(tmp_path):
    (tmp_path / "shards").mkdir()
    for number, keys in enumerate((["03", "01"], ["02"])):
        with tarfile.open(tmp_path / "shards" / f"shard-{number}.tar", "w") as tar:
            for key in keys:
                for suffix in ("png", "cls", "txt"):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = 5
                    tar.addfile(member, io.BytesIO(f"{key}{suffix}".encode()))
    images = open_images(tmp_path / "shards")
    assert list(images.names) == ["01.png", "03.png", "02.png"]
    assert [images.read(i) for i in range(3)] == [b"01png", b"03png", b"02png"]
    assert {item.name for item in images.skipped} == {"01.txt", "02.txt", "03.txt"}
    (tmp_path / "shards" / "a.png").write_bytes(b"a")
    assert list(open_images(tmp_path / "shards").names) == ["a.png"]


PNG = b"\x89PNG\r\n\x1a\n"


def test_every_file_is_an_image_or_is_listed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("elsewhere/c.jpg", "faces/subject01.happy", "faces/y.GIF", "faces/b/._x.png"):
        (tmp_path / name).write_bytes(PNG)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.jpg").symlink_to(folder / "nothing")
    (folder / "faces.json").write_text("{}")
    images = open_images(folder)
    assert images.names == sorted([*NAMES, "linked/c.jpg", "subject01.happy", "y.GIF"])
    assert dict(images.skipped) == {
        "._a.jpg": HIDDEN,
        "b/._x.png": HIDDEN,
        "gone.jpg": NO_FILE,
        "linked/up": CYCLE,
        "list.txt": NO_IMAGE,
        "self": NO_FILE,
    }
    line = skipped_text(images.skipped)
    assert "6 files are not read" in line
    assert "1 are a link to a folder that it lies in (linked/up)" in line


def test_every_member_of_a_tar_is_an_image_or_is_listed(folder, tmp_path):
    (folder / "subject01.happy").write_bytes(PNG)
    (folder / "zz.jpg").hardlink_to(folder / "a.webp")
    images = open_images(archive(folder, tmp_path / "faces.tar"))
    assert len(images.names) + len(images.skipped) == len(FILES) + 2
    assert "subject01.happy" in images.names
    reasons = dict(images.skipped)
    assert {reasons["._a.jpg"], reasons["list.txt"]} == {HIDDEN, NO_IMAGE}
    assert IN_TAR in reasons.values()


def test_a_file_that_is_gone_is_named(folder):
    images = open_images(folder)
    (folder / "a.webp").unlink()
    with pytest.raises(InputError, match=r"a\.webp: cannot read"):
        images.read(0)


def _compressed(path):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(__file__, "a.jpg")


def _truncated(path):
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "a.jpg")
    path.write_bytes(path.read_bytes()[:700])


NO_SETS = {
    "missing": (lambda path: None, "cannot read"),
    "empty": (lambda path: path.mkdir(), "holds no images"),
    "text": (lambda path: path.write_text("no archive" * 100), "no whole .tar"),
    "compressed.tar.gz": (_compressed, "unpack"),
    "truncated.tar": (_truncated, "no whole .tar"),
    "void.tar": (lambda path: tarfile.open(path, "w").close(), "holds no images"),
}


@pytest.mark.parametrize("name", NO_SETS)
def test_what_is_no_set_of_images_is_named(tmp_path, name):
    make, words = NO_SETS[name]
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        open_images(tmp_path / name)
    assert name in str(caught.value)
    assert words in str(caught.value)


def _rows(points=POINTS):
    names = ("b/1.png", "a.jpg")
    return [
        ",".join([name, *map(repr, map(float, p.ravel()))])
        for name, p in zip(names, points, strict=True)
    ]


HEADER = "image_id," + ",".join(f"{side}{i}" for i in range(5) for side in "xy")


@pytest.mark.parametrize("start", [[], [HEADER], [HEADER, ""]])
def test_landmarks_of_a_csv_go_by_name(tmp_path, start):
    (tmp_path / "l.csv").write_text("\n".join([*start, *_rows()]) + "\n")
    found = read_landmarks(tmp_path / "l.csv")
    assert list(found) == ["b/1.png", "a.jpg"]
    np.testing.assert_array_equal(np.stack(list(found.values())), POINTS)


@pytest.mark.parametrize("shape", [(2, 5, 2), (2, 10)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_landmarks_of_an_npz_go_by_name(tmp_path, shape, dtype):
    values = POINTS.astype(dtype)
    np.savez(tmp_path / "l.npz", names=["b/1.png", "a.jpg"], landmarks=values.reshape(shape))
    found = read_landmarks(tmp_path / "l.npz")
    assert list(found) == ["b/1.png", "a.jpg"]
    np.testing.assert_array_equal(np.stack(list(found.values())), values)


def _csv(*lines):
    return lambda path: path.write_text("\n".join(lines))


def _npz(**arrays):
    return lambda path: np.savez(path, **arrays)


BAD_LANDMARKS = {
    "missing.csv": (lambda path: None, "cannot read"),
    "list.txt": (_csv(*_rows()), ".csv or .npz"),
    "empty.csv": (_csv(), "holds no landmarks"),
    "header.csv": (_csv(HEADER), "holds no landmarks"),
    "short.csv": (_csv(_rows()[0], "c.jpg,1,2,3"), "line 2"),
    "words.csv": (_csv(_rows()[0], HEADER), "line 2"),
    "first.csv": (_csv("c.jpg,1,2", _rows()[0]), "line 1"),
    "twice.csv": (_csv(_rows()[0], _rows()[0]), "b/1.png twice"),
    "text.npz": (_csv("no archive"), "write it again"),
    "other.npz": (_npz(x=POINTS), "names"),
    "count.npz": (_npz(names=["a"], landmarks=POINTS), "(2, 5, 2)"),
    "numbers.npz": (_npz(names=np.arange(2), landmarks=POINTS), "int64"),
    "objects.npz": (_npz(names=np.array([{}, {}]), landmarks=POINTS), "write it again"),
}


@pytest.mark.parametrize("name", BAD_LANDMARKS)
def test_bad_landmarks_are_named(tmp_path, name):
    make, words = BAD_LANDMARKS[name]
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_landmarks(tmp_path / name)
    assert name in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

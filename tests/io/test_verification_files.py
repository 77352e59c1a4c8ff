import os
import pickle
import struct

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.io.verification_files import read_verification_set

IMAGES = [bytes([0xFF, 0xD8, i, 0, 0x80, 0x0A]) * (i + 1) for i in range(6)]
IS_SAME = [True, False, True]


def as_array(image):
    return np.frombuffer(image, np.uint8)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def python2_string(data):
    """The opcode by which Python 2 pickled a string of bytes, at protocol 2."""
    return b"T" + struct.pack("<i", len(data)) + data


def python2_array(data):
    """What Python 2 with an old NumPy pickled for an array of bytes, at protocol 2."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = (
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    )
    dtype += b"K\x00tb"
    state = b"(K\x01" + b"J" + struct.pack("<i", len(data)) + b"\x85" + dtype + b"\x89"
    return reconstruct + state + python2_string(data) + b"tb"


def python2_bin(images, pickled):
    bins = b"](" + b"".join(pickled(image) for image in images) + b"e"
    return b"\x80\x02" + bins + b"](" + b"\x88\x89\x88" + b"e" + b"\x86."


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("image_type", [bytes, as_array])
@pytest.mark.parametrize("label_type", [list, tuple, np.array, lambda x: [np.bool_(i) for i in x]])
def test_a_bin_file_of_any_protocol_gives_its_images(tmp_path, protocol, image_type, label_type):
    value = [image_type(image) for image in IMAGES], label_type(IS_SAME)
    found = read_verification_set(write(tmp_path / "lfw.bin", pickle.dumps(value, protocol)))
    assert found.images == IMAGES
    assert found.is_same.dtype == bool
    assert found.is_same.tolist() == IS_SAME
    assert found.name == "lfw"


def as_objects(values, shape=-1):
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "make",
    [
        lambda images, labels: ([as_array(image)[:, None] for image in images], labels),
        lambda images, labels: ([as_array(image)[None] for image in images], labels),
        lambda images, labels: ([as_objects([image]) for image in images], labels),
        lambda images, labels: ([as_objects([image], ()) for image in images], labels),
        lambda images, labels: (as_objects(images), as_objects(labels)),
        lambda images, labels: (as_objects(images, (-1, 1)), np.array(labels)[:, None]),
        lambda images, labels: (as_objects([as_array(image) for image in images]), labels),
    ],
    ids=["columns", "rows", "objects", "scalars", "one array", "one column", "arrays in one"],
)
def test_images_and_labels_may_be_arrays_of_other_shapes_and_of_objects(tmp_path, make, protocol):
    content = pickle.dumps(make(IMAGES, IS_SAME), protocol)
    found = read_verification_set(write(tmp_path / "lfw.bin", content))
    assert found.images == IMAGES
    assert found.is_same.tolist() == IS_SAME


@pytest.mark.parametrize("pickled", [python2_string, python2_array])
def test_a_bin_file_of_python_2_gives_its_images(tmp_path, pickled):
    content = python2_bin(IMAGES, pickled)
    with pytest.raises(UnicodeDecodeError):
        pickle.loads(content)
    bins, _ = pickle.loads(content, encoding="bytes")
    assert [bytes(image) for image in bins] == IMAGES
    found = read_verification_set(write(tmp_path / "agedb_30.bin", content))
    assert found.images == IMAGES
    assert found.is_same.tolist() == IS_SAME


def test_a_pickle_is_known_by_its_start(tmp_path):
    content = pickle.dumps((IMAGES, IS_SAME))
    assert read_verification_set(write(tmp_path / "lfw", content)).images == IMAGES


class Payload:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {}",), "system"),
        (open, ("{}", "w"), "open"),
        (exec, ("open('{}', 'w')",), "exec"),
        (np.save, ("{}", [1]), "save"),
        (getattr, (int, "real"), "getattr"),
    ],
)
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, function, args, name, protocol):
    target = tmp_path / "made"
    args = [arg.format(target) if isinstance(arg, str) else arg for arg in args]
    content = pickle.dumps(([Payload(function, *args), *IMAGES[1:]], IS_SAME), protocol)
    with pytest.raises(InputError, match=rf"bad\.bin: the pickle asks for .*{name}, .* not run"):
        read_verification_set(write(tmp_path / "bad.bin", content))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "bad.bin"]


def test_the_payload_of_that_test_does_run_elsewhere(tmp_path):
    target = tmp_path / "made"
    pickle.loads(pickle.dumps(Payload(exec, f"open({str(target)!r}, 'w').close()")))
    assert target.exists()


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(RECONSTRUCT + b"}U\x01aK\x01sb.", "cannot be changed", id="attributes"),
        pytest.param(RECONSTRUCT + b")\x81.", "NEWOBJ", id="new"),
        pytest.param(RECONSTRUCT + b"K\x01a.", "append", id="append"),
        pytest.param(RECONSTRUCT + b"U\x01bU\x06utf-16\x86R.", "no pair", id="arguments"),
        pytest.param(
            b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x06utf-16\x86R.", "encoding", id="codec"
        ),
        pytest.param(b"P0\n.", "persistent", id="persistent"),
        pytest.param(b"\x82\x01.", "extension", id="extension"),
        pytest.param(b"j\xff\xff\x00\x00.", "65535", id="memo"),
    ],
)
def test_a_pickle_can_only_build_arrays(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"bad\.bin: .*{message}"):
        read_verification_set(write(tmp_path / "bad.bin", b"\x80\x02" + content))


@pytest.mark.parametrize("dtype", [np.float32, "S3", [("a", np.uint8)]])
def test_arrays_of_other_types_are_refused(tmp_path, dtype):
    value = [np.zeros(3, dtype), *IMAGES[1:]], IS_SAME
    with pytest.raises(
        InputError, match=r"bad\.bin: .*(an array (of type|that is not)|is not an encoded)"
    ):
        read_verification_set(write(tmp_path / "bad.bin", pickle.dumps(value, 2)))


@pytest.mark.parametrize("pickled", [pickle.dumps, lambda x: python2_bin(x[0], python2_array)])
def test_a_truncated_pickle_is_refused_wherever_it_ends(tmp_path, pickled):
    content = pickled((IMAGES, IS_SAME))
    for size in range(len(content)):
        with pytest.raises(InputError, match=r"bad\.bin"):
            read_verification_set(write(tmp_path / "bad.bin", content[:size]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((IMAGES[:5], IS_SAME), "5 images for 3 labels"),
        ((IMAGES, IS_SAME[:2]), "6 images for 2 labels"),
        (([], []), "0 images for 0 labels"),
        (IMAGES, "is no pair"),
        ({"bins": IMAGES}, "is no pair"),
        ((b"bins", IS_SAME), "holds a bytes where a list is needed"),
        ((IMAGES, 3), "holds a int where a list is needed"),
        ((["a.jpg"] * 6, IS_SAME), "image 0 is not an encoded image"),
        (([*IMAGES[:5], b""], IS_SAME), "image 5 is not an encoded image"),
        (([*IMAGES[:5], np.zeros((2, 2, 3), np.uint8)], IS_SAME), "image 5 is not"),
        (([*IMAGES[:5], np.zeros((9, 2), np.uint8)], IS_SAME), "image 5 is not"),
        (([*IMAGES[:5], np.zeros(9, np.int64)], IS_SAME), "image 5 is not"),
        (([*IMAGES[:5], np.zeros(3, object)], IS_SAME), "image 5 is not"),
        (([*IMAGES[:5], as_objects(IMAGES[:1] * 2)], IS_SAME), "image 5 is not"),
        ((as_objects(IMAGES, (3, 2)), IS_SAME), "where a list is needed"),
        ((IMAGES, [True, 2, False]), "label 1 is not True or False"),
        ((IMAGES, [True, False, "no"]), "label 2 is not True or False"),
        ((IMAGES, [True, None, False]), "label 1 is not True or False"),
    ],
)
def test_a_bin_file_of_something_else_is_refused(tmp_path, value, message):
    with pytest.raises(InputError, match=rf"bad\.bin: .*{message}"):
        read_verification_set(write(tmp_path / "bad.bin", pickle.dumps(value)))


def make_images(root, *names):
    return [write(root / name, b"image") for name in names]


def test_lines_of_paths_and_labels_are_pairs(tmp_path):
    a, b, c = make_images(tmp_path, "x/a.jpg", "x/b.jpg", "c.png")
    path = write(tmp_path / "pairs.txt", f"x/a.jpg x/b.jpg 1\r\n\n {c}  x/a.jpg 0\n")
    found = read_verification_set(path)
    assert found.images == [a, b, c, a]
    assert found.is_same.tolist() == [True, False]
    assert found.name == "pairs"


def test_tabs_allow_for_paths_with_spaces(tmp_path):
    a, b = make_images(tmp_path / "root", "my face.jpg", "b.jpg")
    path = write(tmp_path / "list", "my face.jpg\tb.jpg\t1")
    assert read_verification_set(path, tmp_path / "root").images == [a, b]


def test_a_csv_is_read_by_the_names_of_its_columns(tmp_path):
    a, b = make_images(tmp_path, "a, 1.jpg", "b.jpg")
    content = '\ufefflabel,fold,path1,path2\n1,0,"a, 1.jpg",b.jpg\n0,1,b.jpg,"a, 1.jpg"\n'
    found = read_verification_set(write(tmp_path / "set.csv", content))
    assert found.images == [a, b, b, a]
    assert found.is_same.tolist() == [True, False]


@pytest.mark.parametrize("header", ["1 2", "1\t2", "2"])
def test_the_pairs_of_lfw_are_named_by_person_and_number(tmp_path, header):
    images = make_images(
        tmp_path / "lfw", "Ann_Li/Ann_Li_0001.jpg", "Ann_Li/Ann_Li_0012.png", "Bo/Bo_0003.jpg"
    )
    a, b, c = images
    lines = [header, "Ann_Li\t1\t12", "Ann_Li 12 1", "Ann_Li\t1\tBo\t3", "Bo 3 Ann_Li 12"]
    found = read_verification_set(write(tmp_path / "pairs.txt", "\n".join(lines)), tmp_path / "lfw")
    assert found.images == [a, b, b, a, a, c, c, b]
    assert found.is_same.tolist() == [True, True, False, False]


@pytest.mark.parametrize("genuine", ["1", "10"])
@pytest.mark.parametrize("mark", [" ", "\t"])
def test_the_pairs_of_cplfw_and_calfw_are_two_lines_each(tmp_path, genuine, mark):
    a, b, c = make_images(tmp_path / "images", "Ann_Li_1.jpg", "Ann_Li_2.jpg", "Bo_3.jpg")
    halves = [(a, genuine), (b, genuine), (a, "0"), (c, "0"), (c, "0"), (b, "0")]
    text = "\n".join(f"{image.name}{mark}{label}" for image, label in halves)
    found = read_verification_set(write(tmp_path / "pairs_CPLFW.txt", text), tmp_path / "images")
    assert found.images == [a, b, a, c, c, b]
    assert found.is_same.tolist() == [True, False, False]


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("true", "FALSE")])
@pytest.mark.parametrize("mark", ["\t", ";", "; ", " "])
def test_labels_in_words_and_semicolons_are_read(tmp_path, yes, no, mark):
    a, b = make_images(tmp_path, "a.jpg", "b.jpg")
    lines = [mark.join(("a.jpg", "b.jpg", yes)), mark.join(("b.jpg", "a.jpg", no))]
    found = read_verification_set(write(tmp_path / "list.txt", "\n".join(lines)))
    assert found.images == [a, b, b, a]
    assert found.is_same.tolist() == [True, False]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_columns_of_a_csv_are_parted_by_what_its_header_has(tmp_path, mark):
    a, b = make_images(tmp_path, "my a.jpg", "b.jpg")
    rows = [("label", "path1", "path2"), ("True", "my a.jpg", "b.jpg"), ("0", "b.jpg", "my a.jpg")]
    text = "\r\n".join(mark.join(row) for row in rows)
    found = read_verification_set(write(tmp_path / "set.csv", text))
    assert found.images == [a, b, b, a]
    assert found.is_same.tolist() == [True, False]


@pytest.mark.parametrize("on_disc", ["utf-8", "latin-1"])
@pytest.mark.parametrize("kind", ["lines", "csv", "lfw", "halves"])
def test_names_in_latin_1_find_their_images(tmp_path, kind, on_disc):
    name = "Jos\u00e9_Pi\u00f1era"
    person = os.fsdecode(name.encode(on_disc))
    image = f"{person}/{person}_0001.jpg"
    (a,) = make_images(tmp_path, image)
    listed = f"{name}/{name}_0001.jpg"
    text = {
        "lines": f"{listed} {listed} 1",
        "csv": f"path1,path2,label\n{listed},{listed},1",
        "lfw": f"1 1\n{name} 1 1\n{name} 1 1",
        "halves": f"{listed} 1\n{listed} 1",
    }[kind]
    path = tmp_path / ("list.csv" if kind == "csv" else "list.txt")
    found = read_verification_set(write(path, text.encode("latin-1")))
    assert set(found.images) == {a}
    assert found.read(0) == b"image"


def test_missing_images_are_counted_in_one_error(tmp_path):
    make_images(tmp_path, "0.jpg")
    lines = [f"{i}.jpg {i + 1}.jpg 1" for i in range(7)]
    path = write(tmp_path / "pairs.txt", "\n".join(lines))
    with pytest.raises(InputError, match=r"pairs.txt: 7 images are missing") as error:
        read_verification_set(path)
    assert "5.jpg, ...;" in str(error.value)
    assert "6.jpg" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "", "holds no pairs"),
        ("p.txt", "a.jpg b.jpg", "line 1 has 2 fields"),
        ("p.txt", "a.jpg a.jpg 1\n\na b.jpg c.jpg 0", "line 3 has 4 fields"),
        ("p.txt", "a.jpg a.jpg 2", "line 1: .*'2'; .* label 0 or 1"),
        ("p.txt", "a.jpg\t\t1", "line 1"),
        ("p.txt", b"\xff\xfe\x00", "neither text nor a pickle"),
        ("p.txt", "a.jpg 1\na.jpg 1\na.jpg 0", "line 3 has no partner"),
        ("p.txt", "a.jpg 1\na.jpg 0", "line 2: label 0 after 1"),
        ("p.txt", "a.jpg 1\na.jpg 11", "line 2 is not 'path label'"),
        ("p.txt", "a.jpg 1\na.jpg a.jpg 1", "line 2 is not 'path label'"),
        ("p.txt", "a.jpg;a.jpg;yes", "line 1: .*'yes'; .* label 0 or 1"),
        ("p.txt", "10 300\nAnn 1 2", "promises 6000 pairs, 1 follow"),
        ("p.txt", "1 1\nAnn 1 2\nAnn 1 Bo", "line 3 is not"),
        ("p.txt", "1 1\nAnn 1 2\nAnn 1 2 3 4", "line 3 is not"),
        ("p.csv", "", "header lacks path1, path2, label"),
        ("p.csv", "path1,path2\na.jpg,a.jpg", "header lacks label"),
        ("p.csv", "path1,path2,label\n", "holds no pairs"),
        ("p.csv", "path1,path2,label\na.jpg,a.jpg", "line 2"),
        ("p.bin", "a.jpg a.jpg 1", "no whole pickle"),
    ],
)
def test_a_bad_list_is_named_with_its_line(tmp_path, name, content, message):
    make_images(tmp_path, "a.jpg")
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        read_verification_set(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["none.bin", "none.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: cannot read"):
        read_verification_set(tmp_path / name)

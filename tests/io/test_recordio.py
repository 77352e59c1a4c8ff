import pickle
import struct

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.io.recordio import (
    ArrayRecordFile,
    PositionalFile,
    RecordIO,
    write_array_record,
    write_recordio,
)

MAGIC = struct.pack("<I", 0xCED7230A)
SAMPLES = [
    (b"first image", 0),
    (b"", 3),
    (MAGIC, 1),
    (b"abcd" + MAGIC + b"efgh" + MAGIC + MAGIC + b"i", 2),
    (b"x" + MAGIC + b"yz", 70000),
    (bytes(range(256)) * 5, 4),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "train.rec"
    write_recordio(path, SAMPLES)
    return path


def _mxnet_record(flag, label, key, payload):
    """What MXNet's recordio.pack and MXIndexedRecordIO write, for data without the magic word."""
    data = struct.pack("<IfQQ", flag, label, key, 0) + payload
    return MAGIC + struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)


def _write_mxnet(path, records):
    offset, lines = 0, []
    for key, record in records:
        lines.append(f"{key}\t{offset}\n")
        offset += len(record)
    path.write_bytes(b"".join(record for _, record in records))
    path.with_suffix(".idx").write_text("".join(lines))


def test_records_come_back_whole_even_with_the_magic_word_inside(path):
    records = RecordIO(path)
    assert [records[i] for i in range(len(records))] == SAMPLES
    assert list(records.keys) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(records.labels(), [label for _, label in SAMPLES])


def test_the_magic_word_stands_at_multiples_of_four_only_where_a_part_starts(path):
    """So says the format: a reader that has lost its place finds the next record by it."""
    words = np.frombuffer(path.read_bytes(), "<u4")
    num_inner = 1 + 3
    assert np.sum(words == 0xCED7230A) == 1 + len(SAMPLES) + num_inner


def test_files_in_the_layout_of_insightface_are_read(tmp_path):
    path = tmp_path / "train.rec"
    records = [
        (0, _mxnet_record(2, 0, 0, struct.pack("<ff", 3, 5))),
        (1, _mxnet_record(2, 0, 1, struct.pack("<ff", 7, 0) + b"one")),
        (2, _mxnet_record(0, 8, 2, b"two!")),
        (3, _mxnet_record(2, 0, 3, struct.pack("<ff", 1, 2))),
        (4, _mxnet_record(2, 0, 4, struct.pack("<ff", 2, 3))),
    ]
    _write_mxnet(path, records)
    found = RecordIO(path)
    assert [found[i] for i in range(len(found))] == [(b"one", 7), (b"two!", 8)]
    np.testing.assert_array_equal(found.labels(), [7, 8])


def test_without_a_range_every_record_is_an_image(tmp_path):
    path = tmp_path / "train.rec"
    _write_mxnet(path, [(key, _mxnet_record(0, key, key, b"image")) for key in (5, 0, 9)])
    found = RecordIO(path)
    assert [found[i][1] for i in range(3)] == [5, 0, 9]


def test_a_first_record_with_a_picture_is_an_image_and_no_range(tmp_path):
    path = tmp_path / "train.rec"
    labels = [7, *range(1, 36)]
    pairs = [(key, struct.pack("<ff", label, 0)) for key, label in enumerate(labels)]
    records = [(key, _mxnet_record(2, 0, key, pair + b"image")) for key, pair in pairs]
    _write_mxnet(path, records)
    found = RecordIO(path)
    np.testing.assert_array_equal(found.labels(), labels)
    assert [found[i] for i in range(len(found))] == [(b"image", label) for label in labels]


@pytest.mark.parametrize("end", [3, 3.5, np.nan])
def test_a_range_that_leaves_out_images_is_refused(tmp_path, end):
    path = tmp_path / "train.rec"
    head = (0, _mxnet_record(2, 0, 0, struct.pack("<ff", end, end)))
    images = [(key, _mxnet_record(0, key, key, b"image")) for key in range(1, 6)]
    _write_mxnet(path, [head, *images])
    with pytest.raises(InputError, match=r"train\.rec: record 0.* ends the range of images at"):
        RecordIO(path)


def test_a_reader_goes_to_another_process_by_pickle(path):
    records = RecordIO(path)
    expected = records[3]
    assert pickle.loads(pickle.dumps(records))[3] == expected


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert PositionalFile.of(path).read(1, 3) == b"efo"
    path.write_bytes(b"afterwards")
    assert PositionalFile.of(path).read(1, 30) == b"fterwards"


def test_a_missing_rec_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train\.rec: cannot read"):
        RecordIO(tmp_path / "train.rec")


def test_a_missing_index_is_named(path):
    path.with_suffix(".idx").unlink()
    with pytest.raises(InputError, match=r"train\.idx: missing; copy it"):
        RecordIO(path)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("", "empty"),
        ("0\t0\n1 72\n", "line 2 is not key<TAB>offset"),
        ("0\t0\n1\tx\n", "line 2 is not key<TAB>offset"),
        ("0\t0\n1\t-4\n", "record 1: the index puts it at byte -4"),
        ("0\t0\n1\t6\n", "record 1: the index puts it at byte 6"),
        ("0\t0\n1\t999992\n", "record 1: the index puts it at byte 999992"),
        ("0\t0\n1\t40\n", "promises records 1 to 6, but the .idx file lacks some"),
        ("0\t4\n", "record 0: no record starts at byte 4"),
    ],
)
def test_a_damaged_index_names_its_line_or_record(path, index, reason):
    path.with_suffix(".idx").write_text(index)
    with pytest.raises(InputError, match=rf"train\.(rec|idx): .*{reason}"):
        RecordIO(path)


def _overwrite(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("place", "data", "reason"),
    [
        (0, b"\0\0\0\0", "no record starts at byte"),
        (4, struct.pack("<I", 1 << 20), "go beyond the end of the file"),
        (4, struct.pack("<I", 8), "too few for a header"),
        (4, struct.pack("<I", 4 << 29 | 30), "no record starts"),
        (4, struct.pack("<I", 2 << 29 | 30), "parts are out of order"),
        (8, struct.pack("<I", 1 << 30), "too few for 1073741824 labels"),
        (12, struct.pack("<f", 1.5), "its label is 1.5"),
        (12, struct.pack("<f", np.nan), "its label is nan"),
    ],
)
def test_a_damaged_record_is_named(path, place, data, reason):
    offset = int(RecordIO(path).offsets[0])
    _overwrite(path, offset + place, data)
    records = RecordIO(path)
    with pytest.raises(InputError, match=rf"train\.rec: record 1: .*{reason}.*; copy"):
        records[0]
    assert records[5] == SAMPLES[5]


@pytest.mark.parametrize("label", [1.5, np.nan, np.inf])
def test_labels_that_are_no_whole_numbers_are_an_error(path, label):
    _overwrite(path, int(RecordIO(path).offsets[2]) + 12, struct.pack("<f", label))
    with pytest.raises(InputError, match="record 3: its label is"):
        RecordIO(path).labels()


def test_a_file_cut_short_names_the_record(path):
    path.write_bytes(path.read_bytes()[:-8])
    records = RecordIO(path)
    with pytest.raises(InputError, match=r"record 6: .* beyond the end"):
        records[5]


def test_a_label_that_the_format_rounds_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError, match="label 16777217 of record 1"):
        write_recordio(tmp_path / "a.rec", [(b"", (1 << 24) + 1)])
    assert not list(tmp_path.iterdir())


def test_array_records_come_back_whole(tmp_path):
    path = tmp_path / "a.array_record"
    samples = [*SAMPLES, (b"last", -1)]
    assert write_array_record(path, samples) == 7
    file = pickle.loads(pickle.dumps(ArrayRecordFile(path)))
    assert [file[i] for i in range(7)] == samples
    expected = [(label, 4 + len(image)) for image, label in samples]
    np.testing.assert_array_equal(file.labels_and_sizes(), expected)


def _flip(content, offset):
    return content[:offset] + bytes([content[offset] ^ 255]) + content[offset + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"no such thing" * 10000,
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-8],
        lambda content: _flip(content, content.find(SAMPLES[0][0])),
    ],
    ids=["junk", "empty", "half", "cut", "bit flip"],
)
def test_what_is_no_whole_array_record_is_named(tmp_path, spoil):
    path = tmp_path / "a.array_record"
    write_array_record(path, SAMPLES)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.array_record: not a whole ArrayRecord file"):
        ArrayRecordFile(path).labels_and_sizes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.array_record"
    write_array_record(path, SAMPLES)
    with pytest.raises(InputError, match="label 2147483648 of image 1"):
        write_array_record(path, [(b"", 1), (b"", 1 << 31)])
    assert ArrayRecordFile(path)[0] == SAMPLES[0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_recordio, write_array_record])
def test_a_folder_that_is_missing_is_named(tmp_path, write):
    with pytest.raises(InputError, match=r"cannot write.*create its folder first"):
        write(tmp_path / "missing" / "a.rec", SAMPLES)

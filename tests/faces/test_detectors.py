from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hyperface_jax.errors import InputError
from hyperface_jax.faces.detectors import (
    Detections,
    ScrfdDetector,
    landmarks_of,
    largest_central_face,
)

SIDES = (1, 2, 3, 4)
POINTS = (-1, 0, 1, 0, 0.5, 1, -1, 2, 1, 2)
RED = (255, 0, 0)
SHAPES = ("column", "shape_score", "shape_box", "shape_point")


def write(
    path,
    *,
    gains=((1, 0.5), (0, 0), (0, 0)),
    has_landmarks=True,
    num_axes=2,
    shape=(1, 3, "h", "w"),
    sides=SIDES,
    scales_itself=False,
):
    """Write a detector whose scores are the redness of a cell, times a gain a stride and an anchor.

    Redness is the mean of the input's (R - G - B) / 3: 127.5 / 128 for red, a third of it for black.
    """
    nodes, initial, outputs = [], {}, []
    source = "x"
    if scales_itself:
        initial |= {"mean": np.array(127.5), "factor": np.array(1 / 128)}
        nodes += [
            helper.make_node("Sub", ["x", "mean"], ["shifted"]),
            helper.make_node("Mul", ["shifted", "factor"], ["scaled"]),
        ]
        source = "scaled"
    num_anchors = len(gains[0])
    widths = {"score": 1, "box": 4, "point": 10} if has_landmarks else {"score": 1, "box": 4}
    constants = {"box": sides, "point": POINTS}
    for i, gain in enumerate(gains):
        stride = 8 * 2**i
        kernel = np.ones((1, 3, stride, stride)) * np.array([1, -1, -1]).reshape(1, 3, 1, 1)
        initial[f"kernel{i}"] = kernel / (3 * stride**2)
        initial[f"gain{i}"] = np.reshape(gain, (1, num_anchors, 1))
        nodes += [
            helper.make_node("Conv", [source, f"kernel{i}"], [f"red{i}"], strides=[stride] * 2),
            helper.make_node("Relu", [f"red{i}"], [f"bright{i}"]),
            helper.make_node("Reshape", [f"bright{i}", "column"], [f"cell{i}"]),
            helper.make_node("Mul", [f"cell{i}", f"gain{i}"], [f"raw_score{i}"]),
            helper.make_node("Mul", [f"raw_score{i}", "zero"], [f"blank{i}"]),
        ]
    for kind, width in widths.items():
        initial[f"shape_{kind}"] = np.array([1, -1, width][3 - num_axes :])
        if kind != "score":
            initial[f"constant_{kind}"] = np.reshape(constants[kind], (1, 1, width))
        for i in range(len(gains)):
            raw = f"raw_{kind}{i}"
            if kind != "score":
                nodes.append(helper.make_node("Add", [f"blank{i}", f"constant_{kind}"], [raw]))
            nodes.append(helper.make_node("Reshape", [raw, f"shape_{kind}"], [f"{kind}{i}"]))
            outputs.append(helper.make_tensor_value_info(f"{kind}{i}", TensorProto.FLOAT, None))
    initial |= {"zero": np.zeros((1, 1, 1)), "column": np.array([-1, 1, 1])}
    save(path, nodes, outputs, initial, shape)
    return path


def save(path, nodes, outputs, initial, shape):
    tensors = [
        numpy_helper.from_array(a.astype(np.int64 if name in SHAPES else np.float32), name)
        for name, a in initial.items()
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    graph = helper.make_graph(nodes, "tiny", [x], outputs, tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def image_of(height, width, *cells, color=RED):
    """Paint cells, (left, top, right, bottom), on black."""
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in cells:
        image[top:bottom, left:right] = color
    return image


@pytest.fixture
def tiny(tmp_path):
    return write(tmp_path / "det.onnx")


def test_a_detector_that_scales_pixels_itself_finds_the_same_faces(tiny, tmp_path):
    other = write(tmp_path / "other.onnx", scales_itself=True)
    image = image_of(640, 640, (64, 32, 72, 40))
    expected, found = ScrfdDetector(tiny)(image), ScrfdDetector(other)(image)
    assert len(expected.scores) > 0
    for one, another in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5)


def test_a_bright_cell_gives_the_box_and_landmarks_worked_out_by_hand(tiny):
    faces = ScrfdDetector(tiny, input_size=64)(image_of(64, 64, (40, 16, 48, 24)))
    np.testing.assert_allclose(faces.boxes, [[32, 0, 64, 48]])
    np.testing.assert_allclose(faces.scores, [127.5 / 128], rtol=1e-5)
    points = [[32, 16], [48, 16], [44, 24], [32, 32], [48, 32]]
    np.testing.assert_allclose(faces.landmarks, [points])


@pytest.mark.parametrize(("level", "stride"), [(0, 8), (1, 16), (2, 32)])
@pytest.mark.parametrize("anchor", [0, 1])
def test_every_stride_and_anchor_is_centered_on_its_cell(tmp_path, level, stride, anchor):
    gains = np.zeros((3, 2))
    gains[level, anchor] = 1
    detector = ScrfdDetector(write(tmp_path / "det.onnx", gains=gains), input_size=128)
    cell = (2 * stride, stride, 3 * stride, 2 * stride)
    faces = detector(image_of(128, 128, cell))
    expected = np.array([2 - 1, 1 - 2, 2 + 3, 1 + 4]) * stride
    np.testing.assert_allclose(faces.boxes, [expected])


@pytest.mark.parametrize("level", range(5))
def test_fifteen_outputs_are_five_strides_with_one_anchor(tmp_path, level):
    gains = np.zeros((5, 1))
    gains[level] = 1
    stride = 8 * 2**level
    detector = ScrfdDetector(write(tmp_path / "det.onnx", gains=gains), input_size=256)
    faces = detector(image_of(256, 256, (stride, 0, 2 * stride, stride)))
    np.testing.assert_allclose(faces.boxes, [np.array([0, -2, 4, 4]) * stride])
    np.testing.assert_allclose(faces.landmarks[0, 2], [1.5 * stride, stride])


def test_outputs_with_a_batch_axis_give_the_same(tmp_path, tiny):
    image = image_of(64, 64, (40, 16, 48, 24), (0, 56, 8, 64))
    batched = write(tmp_path / "batched.onnx", num_axes=3)
    plain, with_axis = (ScrfdDetector(path, input_size=64)(image) for path in (tiny, batched))
    assert len(plain.boxes) == 2
    for left, right in zip(plain, with_axis, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(32, 32, 0.5), (128, 64, 2), (64, 128, 2), (256, 100, 4)]
)
def test_boxes_and_landmarks_are_in_pixels_of_the_image(tiny, height, width, scale):
    cell = [round(side * scale) for side in (16, 16, 24, 24)]
    faces = ScrfdDetector(tiny, input_size=64)(image_of(height, width, cell))
    np.testing.assert_allclose(faces.boxes, [np.array([8, 0, 40, 48]) * scale])
    np.testing.assert_allclose(faces.landmarks[0, 1], np.array([24, 16]) * scale)


def test_each_axis_has_its_own_scale_where_the_shorter_side_is_rounded(tiny):
    faces = ScrfdDetector(tiny, input_size=64)(image_of(256, 103, (68, 64, 96, 96)))
    scaled = 103 * 64 // 256
    assert scaled / 103 != 64 / 256
    np.testing.assert_allclose(faces.boxes[0, ::2], np.array([8, 40]) * 103 / scaled)
    np.testing.assert_allclose(faces.boxes[0, 1::2], [0, 48 * 4])


@pytest.mark.parametrize(("height", "width"), [(1000, 1), (1, 1000), (1, 1), (3, 7)])
def test_extreme_images_have_no_faces_and_raise_nothing(tiny, height, width):
    faces = ScrfdDetector(tiny, input_size=64)(image_of(height, width))
    assert (faces.boxes.shape, faces.scores.shape) == ((0, 4), (0,))
    assert faces.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("color", [(0, 0, 255), (0, 255, 0), (255, 255, 255)])
def test_channels_come_in_rgb_order(tiny, color):
    faces = ScrfdDetector(tiny, input_size=64)(image_of(64, 64, (40, 16, 48, 24), color=color))
    assert not len(faces.boxes)


def test_a_face_counts_from_the_threshold_on(tiny):
    image = image_of(64, 64, (40, 16, 48, 24), color=(100, 0, 0))
    score = (100 + 127.5) / (3 * 128)
    assert len(ScrfdDetector(tiny, input_size=64, threshold=score - 1e-4)(image).boxes) == 1
    assert len(ScrfdDetector(tiny, input_size=64, threshold=score + 1e-4)(image).boxes) == 0


def test_a_weaker_face_with_much_overlap_is_dropped_and_one_with_little_is_kept(tiny):
    image = image_of(64, 64, (24, 16, 32, 24), color=RED)
    image[16:24, 16:24] = 230, 0, 0
    image[16:24, 40:48] = 210, 0, 0
    faces = ScrfdDetector(tiny, input_size=64)(image)
    # Boxes are 32 wide: a shift of 8 leaves 24 / 40 in common, one of 16 leaves 16 / 48.
    np.testing.assert_allclose(faces.boxes[:, 0], [16, 32])
    np.testing.assert_allclose(faces.scores, np.array([382.5, 337.5]) / 384, rtol=1e-5)


def test_a_face_that_overlaps_only_a_dropped_one_is_kept(tmp_path):
    # In a chain of three, the first overlaps the second, which overlaps the third.
    path = write(tmp_path / "det.onnx", sides=(1, 1, 1, 1))
    image = image_of(64, 64)
    for place, red in zip((16, 24, 32), (255, 240, 225), strict=True):
        image[16:24, place : place + 8] = red, 0, 0
    assert len(ScrfdDetector(path, input_size=64)(image).boxes) == 3
    wide = write(tmp_path / "wide.onnx", sides=(1.5, 1, 1.5, 1))
    faces = ScrfdDetector(wide, input_size=64)(image)
    np.testing.assert_allclose(faces.boxes[:, 0], [4, 20])


def test_faces_come_best_first(tiny):
    image = image_of(128, 128)
    places = ((8, 8), (72, 8), (8, 80), (72, 80))
    for (left, top), red in zip(places, (210, 250, 230, 220), strict=True):
        image[top : top + 8, left : left + 8] = red, 0, 0
    faces = ScrfdDetector(tiny, input_size=128)(image)
    np.testing.assert_allclose(faces.landmarks[:, 0], [[64, 8], [0, 80], [64, 80], [0, 8]])
    assert all(left > right for left, right in pairwise(faces.scores))


def test_an_input_of_fixed_size_overrides_the_asked_one_and_need_not_be_square(tmp_path):
    path = write(tmp_path / "det.onnx", shape=(1, 3, 64, 96))
    faces = ScrfdDetector(path, input_size=640)(image_of(128, 192, (160, 64, 176, 80)))
    np.testing.assert_allclose(faces.boxes, [[144, 32, 208, 128]])


def test_an_open_batch_is_taken(tmp_path):
    path = write(tmp_path / "det.onnx", shape=("n", 3, 64, 64))
    assert len(ScrfdDetector(path)(image_of(64, 64, (40, 16, 48, 24))).boxes) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"has_landmarks": False}, "without landmarks"),
        ({"gains": ((1,),) * 5, "has_landmarks": False}, "without landmarks"),
        ({"gains": ((1, 1),) * 4}, "has 12 outputs"),
        ({"gains": ((1,),) * 3}, r"stride 8 has shape \(64, 1\)"),
        ({"gains": ((1, 1, 1),) * 3}, r"stride 8 has shape \(192, 1\)"),
        ({"shape": (2, 3, 64, 64)}, "one float input"),
        ({"shape": (1, 3, 64, 40)}, "multiple of 32"),
        ({"sides": (1, 1, 1, np.nan)}, "not finite"),
    ],
)
def test_other_networks_are_refused_in_one_line(tmp_path, settings, message):
    path = write(tmp_path / "det.onnx", **settings)
    with pytest.raises(InputError, match=message) as caught:
        ScrfdDetector(path, input_size=64)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recognizer_is_refused(tmp_path):
    path = tmp_path / "recognizer.onnx"
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    save(path, nodes, outputs, {}, (1, 3, 112, 112))
    with pytest.raises(InputError, match="has 1 outputs"):
        ScrfdDetector(path)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_damaged_or_missing_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "det.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"det\.onnx") as caught:
        ScrfdDetector(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", 0),
        ("input_size", 100),
        ("input_size", -32),
        ("threshold", 0),
        ("threshold", 1.0),
        ("threshold", float("nan")),
    ],
)
def test_values_out_of_range_are_refused(tiny, name, value):
    with pytest.raises(InputError, match=name):
        ScrfdDetector(tiny, **{name: value})


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(tiny, image):
    detector = ScrfdDetector(tiny, input_size=64)
    with pytest.raises(InputError, match="uint8 of shape"):
        detector(image)
    with pytest.raises(InputError, match="uint8 of shape"):
        landmarks_of(detector, image)


def faces_with(*boxes):
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    marks = np.arange(len(boxes), dtype=float)[:, None, None] + np.zeros((1, 5, 2))
    return Detections(boxes, np.linspace(1, 0.5, len(boxes)), marks)


def test_the_larger_face_is_chosen_unless_it_is_far_from_the_center():
    small, large = (40, 40, 60, 60), (30, 30, 70, 70)
    assert largest_central_face(faces_with(small, large), (100, 100, 3)) == 1
    # Area 400 at the center; area 441 and 5 pixels off: 441 - 2 * 25 < 400; 4 pixels: 441 - 32 > 400.
    near, far = (43.5, 39.5, 64.5, 60.5), (44.5, 39.5, 65.5, 60.5)
    assert largest_central_face(faces_with(small, near), (100, 100, 3)) == 1
    assert largest_central_face(faces_with(small, far), (100, 100, 3)) == 0


def test_the_center_is_that_of_the_image_not_of_a_square():
    left, right = (0, 10, 20, 30), (100, 10, 120, 30)
    assert largest_central_face(faces_with(left, right), (40, 220, 3)) == 1
    assert largest_central_face(faces_with(left, right), (40, 40, 3)) == 0


def test_a_box_turned_inside_out_has_no_area():
    assert largest_central_face(faces_with((90, 90, 10, 10), (45, 45, 55, 55)), (100, 100)) == 1


def test_none_is_chosen_from_no_faces():
    assert largest_central_face(faces_with(), (10, 10, 3)) is None


class TightFaces:
    """Sees white pixels as landmarks if there is a black border of a given width."""

    def __init__(self, border):
        self.border = border
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        rows, columns = np.nonzero(image[:, :, 0] == 255)
        if min(rows.min(), columns.min()) < self.border:
            return faces_with()
        box = [[columns.min(), rows.min(), columns.max(), rows.max()]]
        landmarks = np.stack([columns, rows], axis=1)[None].astype(float)
        return Detections(np.array(box, dtype=float), np.ones(1), landmarks)


@pytest.mark.parametrize(("border", "num_tries"), [(0, 1), (5, 2), (15, 3), (30, 4)])
def test_a_face_that_fills_the_image_is_found_with_a_border(border, num_tries):
    image = np.zeros((30, 40, 3), np.uint8)
    points = np.array([[2, 1], [30, 1], [15, 15], [4, 28], [33, 28]])
    image[points[:, 1], points[:, 0]] = 255
    detector = TightFaces(border)
    np.testing.assert_array_equal(landmarks_of(detector, image), points)
    sizes = [(30, 40, 3), (50, 60, 3), (70, 80, 3), (110, 120, 3)]
    assert detector.shapes == sizes[:num_tries]


def test_landmarks_are_none_where_no_border_helps():
    image = np.full((30, 40, 3), 255, np.uint8)
    detector = TightFaces(1000)
    assert landmarks_of(detector, image) is None
    assert len(detector.shapes) == 4


def test_landmarks_are_those_of_the_large_central_face(tiny):
    image = image_of(128, 128, (0, 0, 8, 8), (64, 56, 72, 64))
    landmarks = landmarks_of(ScrfdDetector(tiny, input_size=128), image)
    assert landmarks is not None
    np.testing.assert_allclose(landmarks[2], [68, 64])

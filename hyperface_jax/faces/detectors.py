"""Detection of faces and their five landmarks with the SCRFD detectors published by insightface.

References:
    Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.faces.onnx_sessions import open_session
from hyperface_jax.io.files import one_line
from hyperface_jax.io.onnx_files import find_input_range
from hyperface_jax.io.resampling import resize_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperface_jax.io.files import StrPath

MAX_OVERLAP = 0.4
"""Largest intersection over union of two faces; if it is larger, only the better one is kept."""
BORDERS = (0.0, 0.25, 0.5, 1.0)
"""Widths of the black border that :func:`landmarks_of` tries, relative to the image's longer side."""

_WIDTHS = (1, 4, 10)
_SCALING = {"signed": (127.5, 128.0), "unit": (0.0, 255.0), "pixels": (0.0, 1.0)}
"""Offset to subtract from pixels, and divisor for the result, for each input range."""


class Detections(NamedTuple):
    """The faces in an image, the best first.

    Coordinates are in pixels, and (0, 0) is the first pixel.

    Attributes:
        boxes: left, top, right and bottom of each face, float64 ``[k, 4]``; boxes may extend beyond the
            image.
        scores: score of each face between 0 and 1, float64 ``[k]``.
        landmarks: left eye, right eye, nose, and left and right corner of the mouth, as seen in the
            image, float64 ``[k, 5, 2]`` as (x, y).
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class Detector(Protocol):
    """A network that finds faces."""

    def __call__(self, image: np.ndarray, /) -> Detections:
        """Find the faces in a uint8 RGB image, ``[h, w, 3]``."""
        ...


class _Levels(NamedTuple):
    """The grids of a network's predictions: their steps in pixels, and predictions per grid point."""

    strides: tuple[int, ...]
    num_anchors: int


_BY_NUM_OUTPUTS = {9: _Levels((8, 16, 32), 2), 15: _Levels((8, 16, 32, 64, 128), 1)}


class ScrfdDetector:
    """A detector in an ONNX file with the same interface as insightface's ``det_10g.onnx``.

    The image is scaled to fit into the upper left of a black square. Unlike in insightface, pixels are
    averaged when the image shrinks.

    Args:
        path: the ONNX file. It must have outputs for landmarks, like files named ``..._kps`` and those
            in the buffalo packs.
        input_size: side of the square in pixels, a multiple of 32; used only if the file does not fix
            the size of its input.
        threshold: smallest score of a face, between 0 and 1.

    Raises:
        InputError: onnxruntime is not installed, the file is not an SCRFD detector, or a value is out
            of range.
    """

    def __init__(self, path: StrPath, *, input_size: int = 640, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise InputError(f"`threshold={threshold}`: must be between 0 and 1")
        self.threshold = threshold
        self._name = one_line(path)
        self._session = open_session(path)
        self._levels = _levels(self._session, self._name)
        self._size = _input_size(self._session, self._name, input_size, self._levels.strides[-1])
        input_range = find_input_range(path, self._session.get_inputs()[0].name)
        self._offset, self._divisor = _SCALING[input_range]
        self._run(np.zeros((*self._size, 3), np.uint8))

    def __call__(self, image: np.ndarray) -> Detections:
        """Find the faces in an image.

        Args:
            image: uint8 RGB, ``[h, w, 3]``.

        Returns:
            The faces, without those that overlap a better one by more than ``MAX_OVERLAP``.

        Raises:
            InputError: the array has the wrong type or shape, or the model fails.
        """
        _check_image(image)
        square, scale = _letterbox(image, self._size)
        scores, boxes, landmarks = self._decode(self._run(square))
        order = np.argsort(-scores, kind="stable")
        best = order[_apart(boxes[order])]
        return Detections(boxes[best] / np.tile(scale, 2), scores[best], landmarks[best] / scale)

    def _run(self, square: np.ndarray) -> list[np.ndarray]:
        """Return the outputs as matrices: the scores for each stride, then boxes, then landmarks."""
        pixels = square.transpose(2, 0, 1)[None].astype(np.float32)
        inputs = (pixels - self._offset) / self._divisor
        try:
            outputs = self._session.run(None, {self._session.get_inputs()[0].name: inputs})
        except Exception as error:  # onnxruntime's own types share no base
            raise InputError(
                f"{self._name}: fails on an image of {self._size}: {one_line(error)}; export it again"
            ) from error
        num_strides = len(self._levels.strides)
        return [
            self._checked(output, self._levels.strides[i % num_strides], _WIDTHS[i // num_strides])
            for i, output in enumerate(outputs)
        ]

    def _checked(self, output: np.ndarray, stride: int, width: int) -> np.ndarray:
        num_rows = np.prod(self._size) // stride**2 * self._levels.num_anchors
        if output.shape not in ((num_rows, width), (1, num_rows, width)):
            raise InputError(
                f"{self._name}: an output for stride {stride} has shape {output.shape}; SCRFD's has "
                f"[{num_rows}, {width}]: give a detector such as det_10g.onnx"
            )
        if not np.isfinite(output).all():
            raise InputError(f"{self._name}: an output is not finite; download the file again")
        return output.reshape(num_rows, width).astype(np.float64)

    def _decode(self, outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the scores, boxes and landmarks above the threshold, in pixels of the square."""
        found = []
        num_strides = len(self._levels.strides)
        for i, stride in enumerate(self._levels.strides):
            is_face = outputs[i][:, 0] >= self.threshold
            score, sides, points = (output[is_face] for output in outputs[i::num_strides])
            place = np.flatnonzero(is_face) // self._levels.num_anchors
            center = _centers(place, self._size[1] // stride)
            box = np.hstack([center - sides[:, :2], center + sides[:, 2:]])
            landmark = center[:, None] + points.reshape(-1, 5, 2)
            found.append((score[:, 0], box * stride, landmark * stride))
        scores, boxes, landmarks = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return scores, boxes, landmarks


def _levels(session: Any, name: str) -> _Levels:
    num_outputs = len(session.get_outputs())
    if num_outputs in (6, 10):
        raise InputError(
            f"{name}: a detector without landmarks ({num_outputs} outputs); give one with landmarks, "
            "such as det_10g.onnx"
        )
    if num_outputs not in _BY_NUM_OUTPUTS:
        raise InputError(
            f"{name}: has {num_outputs} outputs; SCRFD has 9, or 15 with five strides: give a detector "
            "such as det_10g.onnx"
        )
    return _BY_NUM_OUTPUTS[num_outputs]


def _input_size(session: Any, name: str, input_size: int, multiple: int) -> tuple[int, int]:
    """Return the height and width of the input, or ``input_size`` if the file does not fix them."""
    first, *others = session.get_inputs()
    shape = first.shape
    takes_one = shape[:1] == [1] or not isinstance(shape[0], int)
    is_image = takes_one and len(shape) == 4 and shape[1] == 3
    if others or not is_image or first.type != "tensor(float)":
        raise InputError(
            f"{name}: input {first.name!r}, one of {len(others) + 1}, is {first.type} {shape}; one "
            "float input [1, 3, h, w] is needed"
        )
    height, width = (side if isinstance(side, int) else input_size for side in shape[2:])
    if min(height, width) < 1 or height % multiple or width % multiple:
        raise InputError(
            f"{name}: input_size {height} x {width}: must be a positive multiple of {multiple}"
        )
    return height, width


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"image: {image.dtype} of shape {image.shape}; uint8 of shape [h, w, 3] is needed"
        )


def _letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image into the upper left of a black one; also return the scale factors of x and y."""
    (height, width), (most_high, most_wide) = image.shape[:2], size
    if height * most_wide > width * most_high:
        new_height, new_width = most_high, max(1, width * most_high // height)
    else:
        new_height, new_width = max(1, height * most_wide // width), most_wide
    square = np.zeros((*size, 3), np.uint8)
    square[:new_height, :new_width] = resize_linear(image, new_height, new_width)
    return square, np.array([new_width / width, new_height / height])


def _centers(places: np.ndarray, num_columns: int) -> np.ndarray:
    """Return the (column, row) of each point of a grid, ``[k, 2]``."""
    return np.stack([places % num_columns, places // num_columns], axis=1).astype(np.float64)


def _apart(boxes: np.ndarray) -> np.ndarray:
    """Return the indices of the boxes, best first, that do not overlap a better box that is kept."""
    kept = []
    left = np.arange(len(boxes))
    areas = _areas(boxes)
    while left.size:
        first, left = left[0], left[1:]
        kept.append(first)
        corners = np.hstack(
            [
                np.maximum(boxes[first, :2], boxes[left, :2]),
                np.minimum(boxes[first, 2:], boxes[left, 2:]),
            ]
        )
        common = _areas(corners)
        left = left[common <= MAX_OVERLAP * (areas[first] + areas[left] - common)]
    return np.array(kept, dtype=np.int64)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def largest_central_face(faces: Detections, shape: Sequence[int]) -> int | None:
    """Choose the main face of an image, as in insightface's ``FaceAnalysis.get(max_num=1)``.

    The main face maximizes the area of its box minus twice the squared distance between the center of
    the box and that of the image, ``(w // 2, h // 2)``.

    Args:
        faces: the faces in the image.
        shape: shape of the image, ``(h, w, ...)``.

    Returns:
        The index of the face, the one with the better score in case of a tie; None if there are no
        faces.
    """
    if not len(faces.boxes):
        return None
    center = np.array([shape[1] // 2, shape[0] // 2])
    offsets = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - center
    return int(np.argmax(_areas(faces.boxes) - 2 * np.sum(offsets**2, axis=1)))


def landmarks_of(detector: Detector, image: np.ndarray) -> np.ndarray | None:
    """Find the landmarks of the main face of an image.

    Detectors miss faces that fill the whole image, as generated ones may. If no face is found, the image
    is tried again with wider and wider black borders.

    Args:
        detector: the detector.
        image: uint8 RGB, ``[h, w, 3]``.

    Returns:
        float64 ``[5, 2]`` in pixels of the image, in the order of :class:`Detections`, possibly beyond
        its borders; None if no face is found.

    Raises:
        InputError: the array has the wrong type or shape, or the detector fails.
    """
    _check_image(image)
    for border in BORDERS:
        width = round(border * max(image.shape[:2]))
        padded = np.pad(image, ((width, width), (width, width), (0, 0)))
        faces = detector(padded)
        index = largest_central_face(faces, padded.shape)
        if index is not None:
            return faces.landmarks[index] - width
    return None

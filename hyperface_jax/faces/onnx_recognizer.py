"""Recognizers from ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.faces.onnx_sessions import open_session
from hyperface_jax.io.embeddings import file_sha256
from hyperface_jax.io.files import one_line
from hyperface_jax.io.images import in_color
from hyperface_jax.io.onnx_files import find_input_range
from hyperface_jax.io.probes import check_tells_apart, probe_images

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.io.images import Color

_ROUNDING = 0.01
"""Allowed difference between batches of different sizes, relative to the largest value."""
_SCALING = {"signed": (127.5, 127.5), "unit": (0.0, 255.0), "pixels": (0.0, 1.0)}
"""Offset to subtract from pixels, and divisor for the result, for each input range."""


class OnnxRecognizer:
    """A recognizer in an ONNX file with the same interface as insightface's ``w600k_r50.onnx``.

    Its input is ``[n, 3, s, s]``, where n may be variable or fixed. If n is variable but the model only
    works for a single image, as in some careless exports, images are passed one at a time. Pixels are
    scaled to ``(x - 127.5) / 127.5``, unless the model itself starts with a scaling, as some from MXNet
    do; see :func:`hyperface_jax.io.onnx_files.find_input_range`.

    Args:
        path: the ONNX file.
        color: channel order of the network's training images; None uses what the metadata of the file
            state, as :mod:`hyperface_jax.recognition.onnx_export` writes them, or else RGB.

    Raises:
        InputError: onnxruntime is not installed, the file is not a recognizer, or the model cannot tell
            images apart.
    """

    def __init__(self, path: StrPath, *, color: Color | None = None) -> None:
        self.digest = file_sha256(path)
        self._name = one_line(path)
        self._session = open_session(path)
        self.color: Color = color or _stated_color(self._session)
        self._batch, self.image_size = _input_shape(self._session, self._name)
        input_range = find_input_range(path, self._session.get_inputs()[0].name)
        self._offset, self._divisor = _SCALING[input_range]
        if self._batch is None and not self._takes_batches():
            self._batch = 1
        self.embedding_dim = check_tells_apart(self, self.image_size, self._name)

    def __call__(self, images: np.ndarray, /) -> np.ndarray:
        """Embed images.

        Args:
            images: uint8 RGB, ``[n, s, s, 3]``.

        Returns:
            Raw embeddings, float32 ``[n, d]``.

        Raises:
            InputError: the model fails, or its output is not a matrix with one row per image.
        """
        size = self._batch or len(images)
        parts = [self._run(images[start : start + size]) for start in range(0, len(images), size)]
        return np.concatenate(parts)

    def _takes_batches(self) -> bool:
        """Tell whether two images get the same embeddings in one batch as one at a time."""
        images = probe_images(self.image_size)
        try:
            together = self._run(images)
            alone = np.concatenate([self._run(image[None]) for image in images])
        except InputError:
            return False
        if together.shape != alone.shape:
            return False
        return bool(np.abs(together - alone).max() <= _ROUNDING * np.abs(alone).max())

    def _run(self, images: np.ndarray) -> np.ndarray:
        num_images = len(images)
        missing = (self._batch or num_images) - num_images
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        pixels = in_color(images, self.color).transpose(0, 3, 1, 2).astype(np.float32)
        inputs = {self._session.get_inputs()[0].name: (pixels - self._offset) / self._divisor}
        output = self._session.get_outputs()[0].name
        try:
            raw = np.asarray(self._session.run([output], inputs)[0])
        except Exception as error:  # onnxruntime's own types share no base
            raise InputError(
                f"{self._name}: fails on a batch of {len(images)}: {one_line(error)}; export it again"
            ) from error
        if raw.ndim != 2 or raw.shape[0] != len(images) or raw.shape[1] < 2:
            raise InputError(
                f"{self._name}: output {output!r} has shape {raw.shape} for {len(images)} images; "
                "[n, d] is needed"
            )
        return raw[:num_images].astype(np.float32)


def _stated_color(session: Any) -> Color:
    stated = session.get_modelmeta().custom_metadata_map.get("color", "rgb")
    return "bgr" if stated == "bgr" else "rgb"


def _input_shape(session: Any, name: str) -> tuple[int | None, int]:
    """Return the batch size, which is None if it is variable, and the image size."""
    first, *others = session.get_inputs()
    shape = first.shape
    is_face = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]
    if others or not is_face or not isinstance(shape[2], int) or first.type != "tensor(float)":
        raise InputError(
            f"{name}: input {first.name!r}, one of {len(others) + 1}, is {first.type} {shape}; export "
            "a recognizer with one float input [n, 3, size, size] of a fixed size"
        )
    return shape[0] if isinstance(shape[0], int) else None, shape[2]

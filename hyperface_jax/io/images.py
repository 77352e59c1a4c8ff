"""Face images: encoded bytes in, upright RGB arrays out, and the standard 112 x 112 alignment.

Arrays are uint8 ``[h, w, 3]`` in RGB order until :func:`normalize`. Its ``color`` says which channel
order a network was trained with: networks of insightface take RGB, those of AdaFace take BGR. The point
(0, 0) is the center of the first pixel, as in OpenCV and in published landmarks.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageOps

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line
from hyperface_jax.io.resampling import warp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    Color = Literal["rgb", "bgr"]

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp"),
    *(".jpe", ".jfif", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
)
"""File name suffixes of the images that are read."""
NUM_START = 16
"""Number of bytes at the start of a file that :func:`is_image_start` looks at."""
MAX_PIXELS = 1 << 26
"""Largest number of pixels; larger images are refused, since a few bytes can unpack to gigabytes."""
_MAX_GRAY = (1 << 16) - 1
TEMPLATE_SIZE = 112
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""ArcFace's positions of the eyes, the nose and the corners of the mouth, ``[5, 2]`` as (x, y)."""

_LEAST_SPREAD = 2.0
"""Smallest standard deviation of the gray levels (0 to 255); photographs have more than 10."""
_WRITTEN = ("JPEG", "PNG", "WEBP", "BMP")
_FORMATS = (*_WRITTEN, "GIF", "TIFF", "PPM")
_STARTS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*"),
)


def decode(data: bytes, *, name: str) -> np.ndarray:
    """Decode an image to RGB, upright.

    Gray, palette and CMYK images are converted, transparency is dropped, and 16-bit gray is scaled to
    8 bits. EXIF orientation is applied.

    Args:
        data: a JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or PGM file; the first of several images is read.
        name: name of the image in error messages.

    Returns:
        uint8 ``[h, w, 3]``.

    Raises:
        InputError: the data is not an image, is cut short, or holds more than ``MAX_PIXELS`` pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image, name)
            return np.array(_rgb(ImageOps.exif_transpose(image)))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # Corrupt data makes Pillow's decoders raise a dozen types.
        raise InputError(
            f"{one_line(name)}: not a whole image: {_reason(error)}; "
            "replace it with a JPEG, PNG, WebP or BMP, or remove it"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "unknown format"
    return one_line(error)


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)


def _too_large(name: str) -> InputError:
    return InputError(f"{one_line(name)}: more than {MAX_PIXELS} pixels; shrink it or remove it")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > _MAX_GRAY:
            raise ValueError(f"gray levels up to {levels.max()}, more than 16 bits")
        return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("gray levels in floating point")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def encode(image: np.ndarray, *, kind: str = "png", quality: int = 95) -> bytes:
    """Encode an image.

    Args:
        image: uint8 RGB image, ``[h, w, 3]``.
        kind: ``"png"``, ``"jpeg"``, ``"webp"`` or ``"bmp"``.
        quality: quality of JPEG and WebP, from 1 to 100.

    Returns:
        The content of an image file.

    Raises:
        InputError: ``kind`` is unknown, or the array is not such an image.
    """
    if kind.upper() not in _WRITTEN:
        raise InputError(f"kind: {kind!r} is not an image format; use png, jpeg, webp or bmp")
    buffer = io.BytesIO()
    Image.fromarray(_checked(image)).save(buffer, kind.upper(), quality=quality)
    return buffer.getvalue()


def _checked(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"image: {image.dtype} of shape {image.shape}; uint8 of shape [h, w, 3] is needed"
        )
    return image


def in_color(images: Any, color: Color) -> Any:
    """Put the channels of RGB images in the order that a network takes.

    Args:
        images: RGB images, ``[..., 3]``, NumPy or JAX.
        color: ``"rgb"`` leaves them, ``"bgr"`` reverses the channels.

    Returns:
        Images of the same shape and dtype.

    Raises:
        InputError: ``color`` is neither.
    """
    if color not in ("rgb", "bgr"):
        raise InputError(f"color: {color!r} is no channel order; use 'rgb' or 'bgr'")
    return images if color == "rgb" else images[..., ::-1]


def normalize(images: Any, color: Color = "rgb") -> Any:
    """Scale RGB images to what a recognition network takes, ``(x / 255 - 0.5) / 0.5``.

    Args:
        images: uint8 RGB images, ``[..., 3]``, NumPy or JAX.
        color: channel order of the result.

    Returns:
        float32 values in [-1, 1], of the same shape.

    Raises:
        InputError: ``color`` is unknown.
    """
    return (in_color(images, color).astype(np.float32) / 255 - 0.5) / 0.5


def is_image_name(name: str) -> bool:
    """Tell from its name whether a file is an image; a name that starts with a dot is hidden."""
    return has_image_suffix(name) and not name.startswith(".")


def has_image_suffix(name: str) -> bool:
    """Tell whether a name has the suffix of an image."""
    return name.lower().endswith(SUFFIXES)


def is_image_start(start: bytes) -> bool:
    """Tell from its first ``NUM_START`` bytes whether a file is an image, whatever its name."""
    if start[:2] in (b"P5", b"P6"):
        return start[2:3].isspace()
    if start[:2] == b"BM":  # The reserved bytes distinguish it from a text that starts with BM.
        return start[6:10] == bytes(4)
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def is_flat(image: np.ndarray) -> bool:
    """Tell whether an image, uint8 ``[h, w, 3]``, is of a single color, or nearly so.

    Examples:
        >>> is_flat(np.zeros((8, 8, 3), np.uint8))
        True
    """
    return float(image.std(axis=(0, 1)).max(initial=0.0)) < _LEAST_SPREAD


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image to ``[size, size, 3]``, bilinearly, averaging pixels where it shrinks.

    This is for pictures and data sets; images for published recognizers are scaled by
    :func:`.resize_linear`.
    """
    if image.shape[:2] == (size, size):
        return image
    scaled = Image.fromarray(_checked(image)).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(scaled)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Cut a square, ``[size, size, 3]``, from the middle of an image.

    Raises:
        InputError: the image is smaller than the square.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise InputError(f"image: {height} x {width} is smaller than {size} x {size}; resize it")
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def similarity(source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Fit the rotation, uniform scale and shift that map points to others, by least squares.

    Args:
        source: points, ``[n, 2]``.
        target: points to map them to, ``[n, 2]``.

    Returns:
        The transformation, ``[2, 3]``: ``target ~ source @ result[:, :2].T + result[:, 2]``. It is
        never a reflection.

    Raises:
        InputError: the shapes differ, or the points are not finite or all in one place.

    References:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        IEEE TPAMI 13(4), 1991.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.shape[1:] != (2,):
        raise InputError(f"landmarks: shape {source.shape}; {target.shape} is needed")
    if not np.all(np.isfinite(source)) or np.ptp(source, axis=0).max() < 1e-6:
        raise InputError("landmarks: not finite or all in one place; detect them again")
    from_mean, to_mean = source.mean(0), target.mean(0)
    centered = source - from_mean
    u, s, vt = np.linalg.svd((target - to_mean).T @ centered)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = np.sum(s * sign) / np.sum(centered**2) * (u * sign) @ vt
    return np.column_stack([linear, to_mean - linear @ from_mean])


def align(image: np.ndarray, landmarks: ArrayLike, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Warp a face so that its landmarks fall on ArcFace's template.

    Args:
        image: uint8 RGB image, ``[h, w, 3]``.
        landmarks: left eye, right eye, nose, left and right corner of the mouth as seen in the image,
            ``[5, 2]`` pixels as (x, y).
        size: height and width of the result; the template is scaled by ``size / 112``.

    Returns:
        uint8 RGB image, ``[size, size, 3]``, interpolated bilinearly as in OpenCV and black outside of
        the input image.

    Raises:
        InputError: the landmarks or the image cannot be used.
    """
    forward = similarity(landmarks, TEMPLATE * (size / TEMPLATE_SIZE))
    return warp(_checked(image), forward, size)

"""Face images and their embeddings: random faces, detection, recognizers and extraction.

Everything that reads faces lives here: sets of images, landmarks, detectors, recognizers from ONNX files
and from trained networks, and the extraction of embeddings. :mod:`.flax_recognizer` needs the extra
``recognition`` and is imported on first use.

This package may import the layers up to ``packing``, as well as ``planning``, ``synthesis``,
``recognition`` and ``evaluation``. Only ``toyfaces`` and the layers above it may import this package.
"""

from hyperface_jax.faces.alignment import AlignedFace, aligned_faces
from hyperface_jax.faces.detectors import ScrfdDetector, landmarks_of, largest_central_face
from hyperface_jax.faces.drawing import random_faces, write_faces
from hyperface_jax.faces.extraction import Extracted, extract
from hyperface_jax.faces.image_sets import ImageSet, open_images, read_landmarks
from hyperface_jax.faces.onnx_recognizer import OnnxRecognizer
from hyperface_jax.faces.opening import open_recognizer
from hyperface_jax.faces.recognizer import Recognizer

__all__ = [
    "AlignedFace",
    "Extracted",
    "ImageSet",
    "OnnxRecognizer",
    "Recognizer",
    "ScrfdDetector",
    "aligned_faces",
    "extract",
    "landmarks_of",
    "largest_central_face",
    "open_images",
    "open_recognizer",
    "random_faces",
    "read_landmarks",
    "write_faces",
]

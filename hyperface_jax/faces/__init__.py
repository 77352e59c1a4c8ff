"""From face images to a gallery of embeddings: random faces, detection, recognizers, extraction."""

from hyperface_jax.faces.detectors import ScrfdDetector, landmarks_of, largest_central_face
from hyperface_jax.faces.drawing import random_faces, write_faces
from hyperface_jax.faces.extraction import Extracted, extract
from hyperface_jax.faces.image_sets import ImageSet, open_images, read_landmarks
from hyperface_jax.faces.recognizers import OnnxRecognizer, Recognizer

__all__ = [
    "Extracted",
    "ImageSet",
    "OnnxRecognizer",
    "Recognizer",
    "ScrfdDetector",
    "extract",
    "landmarks_of",
    "largest_central_face",
    "open_images",
    "random_faces",
    "read_landmarks",
    "write_faces",
]

"""From face images to a gallery of embeddings: random faces, detection, recognizers, extraction.

Everything that reads faces lives here: images, landmarks, detectors, recognizers of any kind
(:mod:`.flax_recognizer`, which needs the extra ``recognition`` and is loaded when it is asked for; ONNX
files), and the embeddings that they give. It may import all domains but toyfaces and reports.
"""

from hyperface_jax.faces.detectors import ScrfdDetector, landmarks_of, largest_central_face
from hyperface_jax.faces.drawing import random_faces, write_faces
from hyperface_jax.faces.extraction import Extracted, extract
from hyperface_jax.faces.image_sets import ImageSet, open_images, read_landmarks
from hyperface_jax.faces.onnx_recognizer import OnnxRecognizer
from hyperface_jax.faces.opening import open_recognizer
from hyperface_jax.faces.recognizer import Recognizer

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
    "open_recognizer",
    "random_faces",
    "read_landmarks",
    "write_faces",
]

"""From face images to a gallery of embeddings: recognisers, sets of images, and extraction."""

from hyperface_jax.gallery.extract import Extracted, extract
from hyperface_jax.gallery.image_sets import ImageSet, open_images, read_landmarks
from hyperface_jax.gallery.recognizers import OnnxRecognizer, Recognizer

__all__ = [
    "Extracted",
    "ImageSet",
    "OnnxRecognizer",
    "Recognizer",
    "extract",
    "open_images",
    "read_landmarks",
]

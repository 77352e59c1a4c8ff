"""A generator whose images show their condition and noise, and a recognizer that reads it back."""

import hashlib

import numpy as np

from hyperface_jax.synthesis.generators import FunctionGenerator

DIM, SIZE = 12, 16


def paint(conditions, noise):
    """Write the condition into the first rows of the image and the noise into the others."""
    flat = np.zeros((len(conditions), SIZE * SIZE * 3), np.float32)
    flat[:, :DIM] = 127.5 + 120 * conditions
    flat[:, DIM:] = np.clip(127.5 + 30 * np.tile(noise, (1, 200))[:, : flat.shape[1] - DIM], 0, 255)
    return np.rint(flat).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)


def read(images):
    """Return the unit conditions that the images show."""
    raw = images.reshape(len(images), -1)[:, :DIM].astype(np.float32) - 127.5
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def make(name="fake"):
    return FunctionGenerator(
        function=paint,
        name=name,
        digest=hashlib.sha256(name.encode()).hexdigest(),
        condition_dim=DIM,
        noise_shape=(7,),
        image_size=SIZE,
    )


FAKE = make()


class Guided:
    """The fake generator with a guidance that subtracts a share of the negatives from its images."""

    name, digest = "fake guided", hashlib.sha256(b"guided").hexdigest()
    condition_dim, noise_shape, image_size = DIM, (7,), SIZE

    def __init__(self, *, takes_negatives=True):
        self.takes_negatives = takes_negatives
        self.conditions, self.calls = [], []

    def __call__(self, conditions, noise, /, negatives=None):
        self.conditions.append(conditions)
        self.calls.append(negatives)
        if negatives is not None:
            conditions = conditions - 0.2 * negatives.weight * negatives.conditions
        return paint(conditions, noise)


GUIDED = Guided()

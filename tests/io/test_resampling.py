"""Resampling against OpenCV."""

import cv2
import numpy as np
import pytest

from hyperface_jax.io.images import TEMPLATE, align, similarity
from hyperface_jax.io.resampling import resize_linear, warp

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (150, 190, 3), np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (0, 0), 2)


@pytest.mark.parametrize("image", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("shape", [(112, 112), (112, 128), (75, 95), (300, 70), (640, 512), (1, 1)])
def test_resizing_agrees_with_opencv(image, shape):
    height, width = shape
    difference = resize_linear(image, height, width).astype(int) - cv2.resize(
        image, (width, height)
    )
    assert abs(difference).max() <= 1
    assert abs(difference).mean() < 0.01


@pytest.mark.parametrize("image", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.3])
def test_warping_agrees_with_opencv_up_to_the_border(image, scale):
    turn = 0.3
    forward = scale * np.array(
        [[np.cos(turn), -np.sin(turn), -20], [np.sin(turn), np.cos(turn), 9]]
    )
    difference = warp(image, forward, 112).astype(int) - cv2.warpAffine(image, forward, (112, 112))
    assert abs(difference).max() <= 1
    assert abs(difference).mean() < 0.01


def test_aligned_faces_are_those_of_opencv():
    landmarks = TEMPLATE * 1.3 + np.array([12.0, -4.0]) + RNG.normal(0, 2, TEMPLATE.shape)
    found = align(SMOOTH, landmarks).astype(int)
    expected = cv2.warpAffine(SMOOTH, similarity(landmarks, TEMPLATE), (112, 112))
    assert abs((found - expected).mean()) < 0.1
    assert abs(found - expected).max() <= 1

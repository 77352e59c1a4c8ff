"""Margin heads against float64 transcriptions of the papers' formulas."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperface_jax.recognition.margins import AdaFace, AdaFaceState, ArcFace, CosFace

HEADS = [ArcFace(), ArcFace(32, 0.3), CosFace(), CosFace(30, 0.35), AdaFace(), AdaFace(t_alpha=1.0)]
COSINES = np.concatenate([np.linspace(-0.998, 0.998, 41), [-0.8776, -0.8775]])
NORMS = np.random.default_rng(0).uniform(0.5, 60, COSINES.size)
ALL = np.ones(COSINES.size, bool)


def _arcface(head, cosine, norms):
    """insightface's since December 2022: nothing falls back beyond an angle of pi."""
    return head.scale * np.cos(np.arccos(cosine) + head.margin)


def _cosface(head, cosine, norms):
    return head.scale * (cosine - head.margin)


def _adaface(head, cosine, norms):
    norms = np.clip(norms, 0.001, 100)
    mean = head.t_alpha * norms.mean() + (1 - head.t_alpha) * 20
    std = head.t_alpha * norms.std(ddof=1) + (1 - head.t_alpha) * 100
    z = np.clip(head.h * (norms - mean) / (std + 1e-3), -1, 1)
    angle = np.arccos(np.clip(cosine, -(1 - 1e-3), 1 - 1e-3))
    angle = np.clip(angle - head.margin * z, 1e-3, math.pi - 1e-3)
    return head.scale * (np.cos(angle) - (head.margin + head.margin * z))


PAPERS = {ArcFace: _arcface, CosFace: _cosface, AdaFace: _adaface}


def _logits(head, cosine, norms: Any = NORMS, is_face: Any = ALL, state=None):
    """Return target logits and the next state, in float32."""
    given = [jnp.asarray(x, jnp.float32) for x in (cosine, norms)]
    start = head.init_state() if state is None else state
    return head.target_logits(*given, jnp.asarray(is_face), start)


def _slope(head, cosine, norms: Any = NORMS, is_face: Any = ALL):
    return jax.grad(lambda c: jnp.sum(_logits(head, c, norms, is_face)[0]))(
        jnp.asarray(cosine, jnp.float32)
    )


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_logits_are_those_of_the_paper(head):
    want = PAPERS[type(head)](head, COSINES, NORMS)
    np.testing.assert_allclose(_logits(head, COSINES)[0], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [head for head in HEADS if not isinstance(head, ArcFace)], ids=str)
def test_the_gradient_is_that_of_the_formula(head):
    formula, cosine = PAPERS[type(head)], COSINES.astype(np.float32).astype(np.float64)
    step = 1e-6
    rise = formula(head, cosine + step, NORMS) - formula(head, cosine - step, NORMS)
    slope = _slope(head, COSINES)
    np.testing.assert_allclose(slope, rise / (2 * step), rtol=1e-5, atol=1e-5)
    assert np.all(np.asarray(slope) >= 0)


def test_adaface_turns_the_slope_by_its_angular_margin():
    head, cosine, norms = AdaFace(t_alpha=1.0), COSINES[5:-7], NORMS[5:-7]
    z = np.clip(head.h * (norms - norms.mean()) / (norms.std(ddof=1) + 1e-3), -1, 1)
    angle = np.arccos(cosine)
    want = head.scale * np.sin(angle - head.margin * z) / np.sin(angle)
    np.testing.assert_allclose(_slope(head, cosine, norms, ALL[5:-7]), want, rtol=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5])
def test_arcface_has_the_gradient_of_insightface(margin):
    """There the margin is added without gradient, so cross-entropy's is s (softmax - onehot)."""
    head = ArcFace(margin=margin)
    cosine = jax.random.uniform(jax.random.key(1), (43, 9), minval=-0.99, maxval=0.99)
    onehot = jax.nn.one_hot(jnp.arange(43) % 9, 9)

    def logits(cosine):
        target = _logits(head, jnp.sum(cosine * onehot, axis=1))[0]
        return jnp.where(onehot > 0, target[:, None], head.scale * cosine)

    got = jax.grad(lambda c: -jnp.sum(onehot * jax.nn.log_softmax(logits(c))))(cosine)
    want = head.scale * (jax.nn.softmax(logits(cosine)) - onehot)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(_slope(head, COSINES), np.full(COSINES.shape, 64, np.float32))


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_smaller_angle_never_lowers_the_logit(head):
    # ArcFace turns beyond pi, where cosines rise again.
    lowest = math.cos(math.pi - head.margin) if isinstance(head, ArcFace) else -1
    cosine = np.linspace(lowest, 1, 2001)
    logits = _logits(head, cosine, np.full(2001, 7.0), np.ones(2001, bool))[0]
    assert jnp.all(jnp.diff(logits) >= -2e-5)


def test_arcface_has_no_jump_where_the_angle_passes_pi():
    edge = math.cos(math.pi - 0.5)
    logits = _logits(ArcFace(), [edge - 1e-4, edge + 1e-4], NORMS[:2], ALL[:2])[0]
    assert abs(float(logits[1] - logits[0])) < 0.1


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("norm", [0.0, 1e-6, 20.0, 1e6])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_extreme_cosines_and_norms_stay_finite(head, norm, dtype):
    cosine = jnp.array([1, -1, 1.0000002, -1.0000002, 0, 0.999, -0.999], dtype)
    norms = jnp.full(cosine.shape, norm, dtype)
    state = head.init_state()

    def total(cosine, norms):
        logits, after = head.target_logits(cosine, norms, jnp.ones(7, bool), state)
        return jnp.sum(logits), (logits, after)

    slopes, (logits, after) = jax.grad(total, argnums=(0, 1), has_aux=True)(cosine, norms)
    assert logits.dtype == jnp.float32
    for leaf in jax.tree.leaves((slopes, logits, after)):
        assert np.all(np.isfinite(np.asarray(leaf, np.float32)))


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_sixteen_bit_cosines_are_computed_with_in_float32(head):
    cosine, norms = (jnp.asarray(x, jnp.bfloat16) for x in (COSINES, NORMS))
    short = head.target_logits(cosine, norms, jnp.asarray(ALL), head.init_state())[0]
    np.testing.assert_array_equal(short, _logits(head, cosine, norms)[0])


def test_adaface_starts_at_the_published_statistics_and_updates_them_before_use():
    head = AdaFace(t_alpha=0.25)
    assert [float(x) for x in head.init_state()] == [20, 100]
    logits, state = _logits(head, COSINES)
    norms = np.clip(NORMS, 0.001, 100)
    want = (0.25 * norms.mean() + 15, 0.25 * norms.std(ddof=1) + 75)
    np.testing.assert_allclose(state, want, rtol=1e-6)
    frozen = AdaFace(t_alpha=0.0)
    np.testing.assert_allclose(_logits(frozen, COSINES, state=state)[0], logits, atol=1e-5)


def test_adaface_gives_long_embeddings_the_larger_additive_margin():
    short, long = _logits(AdaFace(t_alpha=1.0), [0.7, 0.7], [10, 30], [True, True])[0]
    assert short > long


def test_rows_that_only_fill_up_do_not_count_for_adaface():
    is_face = np.arange(COSINES.size) < 30
    _, state = _logits(AdaFace(), COSINES, NORMS, is_face)
    _, fewer = _logits(AdaFace(), COSINES[:30], NORMS[:30], ALL[:30])
    np.testing.assert_allclose(state, fewer, rtol=1e-6)


@pytest.mark.parametrize("num_faces", [0, 1])
def test_too_few_faces_leave_the_statistics_of_adaface(num_faces):
    start = AdaFaceState(jnp.float32(12), jnp.float32(3))
    is_face = np.arange(COSINES.size) < num_faces
    _, state = _logits(AdaFace(), COSINES, NORMS, is_face, state=start)
    assert [float(x) for x in state] == [12, 3]

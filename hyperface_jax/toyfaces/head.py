"""The head, a stack of ellipses along its vertical axis, so that a turned head has a closed form.

For each pixel, the longitude and the height of the visible skin are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from hyperface_jax.toyfaces.drawing import mixed, palette, ramp, safe_root, smooth_step
from hyperface_jax.toyfaces.parameters import Nuisance, Traits

_TOP = -0.92
_CHEEK = -0.05
"""Height of the widest ellipse of the head."""
DEPTH = 0.66
"""Half of the head's extent from front to back."""
_RECENTER = 0.5
"""Share of the shift caused by a turn that cropping around the features undoes."""
_SKIN = ((0.27, 0.16, 0.11), (0.55, 0.35, 0.24), (0.80, 0.58, 0.45), (0.98, 0.83, 0.74))
_HAIR = ((0.05, 0.04, 0.05), (0.22, 0.13, 0.08), (0.47, 0.30, 0.16), (0.90, 0.74, 0.45))
_EYES = (
    (0.16, 0.08, 0.04),
    (0.42, 0.25, 0.10),
    (0.30, 0.47, 0.20),
    (0.22, 0.48, 0.72),
    (0.60, 0.68, 0.74),
)


class Skin(NamedTuple):
    """The point of the head that is visible at each pixel, ``[size, size]``, and the pixel width.

    Attributes:
        x: position in the image plane of the upright head, to the right.
        y: position in the image plane of the upright head, down.
        u: sideways position on the face, which is the x of the point in a frontal view.
        v: vertical position on the face, down.
        front: cosine of the longitude: 1 at the nose, 0 at the ears, -1 at the back.
        side: sine of the longitude.
        center: x of the middle of the ellipse.
        half: half width of the head, without the rounding at the top and the chin.
        rounding: amount of rounding, from 0 at the cheeks to 1 at the top and the chin.
        pixel: width of a pixel.
    """

    x: Any
    y: Any
    u: Any
    v: Any
    front: Any
    side: Any
    center: Any
    half: Any
    rounding: Any
    pixel: Any


class Colored(NamedTuple):
    """Colors of a person, ``[3]`` each."""

    skin: Any
    hair: Any
    brow: Any
    iris: Any
    lips: Any


def aged(face: Traits, age: Any) -> Traits:
    """Return the traits of an aged face: hair recedes, brows sink, the lower face widens."""
    return face._replace(
        hairline=face.hairline - 0.09 * age,
        jaw_width=face.jaw_width + 0.06 * age,
        brow_height=face.brow_height - 0.015 * age,
        lip_fullness=face.lip_fullness * (1 - 0.25 * age),
        nose_width=face.nose_width * (1 + 0.1 * age),
    )


def colored(face: Traits, view: Nuisance) -> Colored:
    """Return the colors of a person in a picture."""
    hue = jnp.stack(
        [0.03 * face.skin_hue, 0.04 - 0.09 * face.skin_hue, 0.07 * face.skin_hue - 0.05]
    )
    skin = palette(face.skin_lightness, _SKIN) + hue
    hair = palette(face.hair_lightness, _HAIR)
    hair = mixed(hair, (0.55, 0.22, 0.08), 0.75 * smooth_step(face.hair_redness, 0.5, 1.0))
    gray = mixed(hair, (0.74, 0.74, 0.75), 0.8 * smooth_step(view.age, 0.3, 1.0))
    return Colored(
        skin=skin,
        hair=gray,
        brow=mixed(0.75 * mixed(hair, gray, 0.5), skin, 0.12),
        iris=palette(face.eye_color, _EYES),
        lips=mixed(skin, (0.72, 0.22, 0.24), 0.5) * 0.92,
    )


def grid(size: int) -> tuple[Any, Any]:
    """Return the centers of the pixels, x and y from -1 to 1."""
    middles = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (2 / size) - 1
    x, y = jnp.meshgrid(middles, middles)
    return x, y


def _upright(view: Nuisance, size: int) -> tuple[Any, Any]:
    """Return the position of each pixel relative to an upright head of standard size."""
    x, y = grid(size)
    x, y = (x - view.shift_x) / view.scale, (y - view.shift_y) / view.scale
    cos, sin = jnp.cos(view.roll), jnp.sin(view.roll)
    return cos * x + sin * y + _RECENTER * DEPTH * jnp.sin(view.yaw), cos * y - sin * x


def skin_seen(face: Traits, view: Nuisance, size: int) -> Skin:
    """Find the point of the head that is visible at each pixel."""
    x, y = _upright(view, size)
    turn, look = jnp.sin(view.yaw), jnp.sin(view.pitch)
    # When a head tilts, its front moves, but its outline hardly does.
    near = safe_root(1 - (x / 0.8) ** 2 - y**2)
    v = (y + DEPTH * look * (near - 0.6)) / jnp.cos(view.pitch)
    below = jnp.maximum(v - _CHEEK, 0) / (face.face_height - _CHEEK)
    above = jnp.maximum(_CHEEK - v, 0) / (_CHEEK - _TOP)
    square = below**2
    rounding = above**2 + square + face.jaw_squareness * (square**2 - square)
    width = face.face_width * (1 - (1 - face.jaw_width) * jnp.minimum(square, 1.2))
    # Seen from the side, forehead and chin are flatter, and the throat is behind the jaw.
    back = 0.3 * smooth_step(below, 0.2, 1.0)
    wide = width * jnp.cos(view.yaw)
    deep = DEPTH * (1 - back) * jnp.sqrt(1 + jnp.minimum(rounding, 1)) * turn
    half, center = safe_root(wide**2 + deep**2), back * DEPTH * turn
    flat = safe_root(1 - rounding)
    across = jnp.clip((x - center) / (half * flat), -1, 1)
    toward = safe_root(1 - across**2)
    side = (across * wide - toward * deep) / half
    front = (toward * wide + across * deep) / half
    pixel = 2 / size / view.scale
    return Skin(x, y, width * flat * side, v, front, side, center, half, rounding, pixel)


def head_mask(skin: Skin) -> Any:
    """Return the share of each pixel that the head covers."""
    reach = safe_root(((skin.x - skin.center) / skin.half) ** 2 + skin.rounding)
    return ramp((reach - 1) * 0.6, skin.pixel)


def light_on(skin: Skin, view: Nuisance) -> Any:
    """Return the light that falls on the head, ``[1, size, size]``."""
    x = (skin.x - skin.center) / skin.half
    y = jnp.clip(skin.v - _CHEEK, -1, 1)
    z = safe_root(1 - x**2 - y**2)
    direct = jnp.maximum(0, x * view.light_x + y * view.light_y + z * 0.75)
    return (1 - view.light_strength + 1.25 * view.light_strength * direct)[None]

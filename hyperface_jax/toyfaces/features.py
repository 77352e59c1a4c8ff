"""The features on and behind a head, painted from back to front.

Features are flat shapes on the skin: when the head turns, they move, are foreshortened and get hidden.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from hyperface_jax.toyfaces.drawing import bump, ellipse, line, over, ramp, safe_root, smooth_step
from hyperface_jax.toyfaces.head import DEPTH, Colored, Skin
from hyperface_jax.toyfaces.parameters import Nuisance, Traits

_PROTRUSION = 0.13
"""How far the tip of the nose sticks out."""


def paint_behind(
    image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored, shade: Any
) -> Any:
    """Paint what is behind the head: long hair, clothes, neck and ears."""
    turn, pixel = jnp.sin(view.yaw), skin.pixel
    long = smooth_step(face.hair_length, 0.50, 0.56)
    volume = 0.03 + 0.13 * face.hair_length
    skull = jnp.sqrt((face.face_width * jnp.cos(view.yaw)) ** 2 + (DEPTH * turn) ** 2)
    crown = ellipse(skin.x, skin.y + 0.25, skull + volume, 0.70 + volume, pixel)
    x, y = (skin.x + 0.1 * turn) / (skull + 0.8 * volume), skin.y / (0.35 + 0.95 * face.hair_length)
    locks = (
        long
        * ramp((safe_root(safe_root(x**4 + y**4)) - 1) * 0.7, pixel)
        * smooth_step(skin.y, -0.4, -0.1)
    )
    hair = (0.8 * colors.hair)[:, None, None] * shade
    x = skin.x + 0.2 * turn
    image = over(image, jnp.maximum(crown, locks), hair)
    neck = ramp(jnp.maximum(jnp.abs(x) - 0.62 * face.face_width, -skin.y), pixel)
    image = over(image, neck, (0.78 * colors.skin)[:, None, None] * shade)
    image = over(image, ellipse(x, skin.y - 1.55, 1.15, 0.60, pixel), view.cloth)
    return _ears(image, skin, face, view, colors)


def _ears(image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored) -> Any:
    cos, turn = jnp.cos(view.yaw), jnp.sin(view.yaw)
    y = skin.v - face.eye_height - 0.13
    for sign in (-1, 1):
        x = skin.x - sign * face.face_width * cos * 1.02 + 0.05 * turn
        ear = _bare(face) * ellipse(x, y, 0.07 + 0.04 * jnp.abs(turn), 0.15, skin.pixel)
        image = over(image, ear, 0.86 * colors.skin)
    return image


def _bare(face: Traits) -> Any:
    """Return the share of the ears that hair does not cover."""
    return 1 - smooth_step(face.hair_length, 0.5, 0.7)


def _near_ear(image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored) -> Any:
    """Paint the ear on the visible side of a turned head."""
    turn = jnp.sin(view.yaw)
    x, y = skin.front * DEPTH + 0.06, skin.v - face.eye_height - 0.13
    shown = (
        _bare(face)
        * smooth_step(jnp.abs(skin.side), 0.6, 0.8)
        * smooth_step(jnp.abs(turn), 0.15, 0.4)
    )
    image = over(image, shown * ellipse(x, y, 0.10, 0.15, skin.pixel), 0.88 * colors.skin)
    return over(image, shown * ellipse(x, y, 0.05, 0.09, skin.pixel), 0.68 * colors.skin)


def paint_head(skin: Skin, face: Traits, view: Nuisance, colors: Colored) -> Any:
    """Paint the skin of the head and the features on it, ``[3, size, size]``."""
    blank = jnp.zeros((3, *skin.u.shape), jnp.float32) + colors.skin[:, None, None]
    seen = smooth_step(skin.front, 0.0, 0.2)
    image = blank * (1 - _shadows(skin, face, view, seen))[None]
    image = over(image, 0.35 * seen * _cheeks(skin, face), colors.lips)
    image = _beard(image, skin, face, colors)
    image = _mouth(image, skin, face, view, colors, seen)
    image = _eyes(image, skin, face, view, colors, seen)
    image = _hair(image, skin, face, colors)
    image = _near_ear(image, skin, face, view, colors)
    return _glasses(image, skin, face, view, seen)


def _cheeks(skin: Skin, face: Traits) -> Any:
    x = (jnp.abs(skin.u) - 0.36) / 0.2
    return bump(x**2 + ((skin.v - face.eye_height - 0.32) / 0.18) ** 2)


def _shadows(skin: Skin, face: Traits, view: Nuisance, seen: Any) -> Any:
    """Return how much the skin is darkened by eye sockets and by lines of age."""
    u, y = jnp.abs(skin.u), skin.v - face.eye_height
    socket = bump(((u - face.eye_distance) / 0.2) ** 2 + ((y + 0.03) / 0.15) ** 2)
    fold = line(u - 0.9 * face.nose_width - 0.28 * (y - face.nose_length), 0.010, 1.5 * skin.pixel)
    fold *= bump(((y - face.nose_length - 0.12) / 0.2) ** 2)
    bag = line(y - 0.13 + 0.6 * (u - face.eye_distance) ** 2, 0.012, 1.5 * skin.pixel)
    bag *= bump(((u - face.eye_distance) / 0.15) ** 2)
    brow = y + face.brow_height + 0.16
    lines = line(brow, 0.010, 1.5 * skin.pixel) + line(brow + 0.09, 0.010, 1.5 * skin.pixel)
    lines *= bump((u / 0.4) ** 2)
    return seen * (0.22 * socket + view.age * (0.45 * fold + 0.3 * bag + 0.35 * lines))


def _beard(image: Any, skin: Skin, face: Traits, colors: Colored) -> Any:
    nose = face.eye_height + face.nose_length
    cheek = smooth_step(jnp.abs(skin.side), 0.45, 0.95)
    start = nose + 0.11 + 0.14 * bump((cheek - 0.35) ** 2 / 0.1) - 0.5 * cheek
    cover = ramp(start - skin.v, 0.10) * smooth_step(skin.front, -0.1, 0.1)
    return over(image, 0.92 * jnp.clip(2 * face.beard, 0, 1) * cover, 0.85 * colors.hair)


def _mouth(image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored, seen: Any) -> Any:
    nose = face.eye_height + face.nose_length
    width = face.mouth_width * (1 + 0.15 * view.smile)
    arch = jnp.maximum(1 - (skin.u / width) ** 2, -1)
    middle = (
        nose
        + face.mouth_height * (face.face_height - nose)
        + 0.07 * (view.smile + 0.25) * (arch - 0.6)
    )
    y, gap = skin.v - middle, 0.10 * view.mouth_open * arch
    lip = face.lip_fullness
    upper = ramp(-y - 0.9 * lip * arch - 0.4 * gap, skin.pixel)
    lower = ramp(y - 1.15 * lip * arch - gap, skin.pixel)
    lips = seen * jnp.minimum(upper, lower) * (arch > -0.5)
    image = over(image, lips, colors.lips)
    inside = jnp.minimum(ramp(-y - 0.4 * gap, skin.pixel), ramp(y - gap, skin.pixel))
    inside *= lips * jnp.minimum(1, 0.2 * view.mouth_open / skin.pixel)
    image = over(image, inside, jnp.array([0.28, 0.07, 0.08]))
    image = over(image, inside * ramp(y - 0.2 * gap, skin.pixel), jnp.array([0.93, 0.90, 0.86]))
    shut = lips * line(y, 0.010, skin.pixel) * (1 - jnp.minimum(1, 4 * view.mouth_open))
    return over(image, shut, 0.4 * colors.lips)


def _eyes(image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored, seen: Any) -> Any:
    sign = jnp.where(skin.u < 0, -1.0, 1.0)
    x = jnp.abs(skin.u) - face.eye_distance
    y = skin.v - face.eye_height + face.eye_slant * x
    size, pixel = face.eye_size, skin.pixel
    arch = jnp.maximum(1 - (x / size) ** 2, -1)
    high, low = 0.55 * size * arch, 0.42 * size * arch
    lid = high - view.eye_closure * (high + low)
    ball = seen * jnp.minimum(ramp(-y - lid, pixel), ramp(y - low, pixel))
    ball *= jnp.minimum(1, 1.9 * size * (1 - view.eye_closure) / pixel)
    image = over(image, ball, jnp.array([0.95, 0.94, 0.92]))
    x_iris = x - 0.3 * size * view.gaze * sign
    for radius, color in ((0.50, colors.iris), (0.23, jnp.zeros(3) + 0.03)):
        iris = ellipse(x_iris, y + 0.05 * size, radius * size, radius * size, pixel)
        image = over(image, ball * iris, color)
    glint = ellipse(x_iris + 0.2 * size * sign, y + 0.25 * size, 0.13 * size, 0.13 * size, pixel)
    image = over(image, ball * glint, jnp.ones(3))
    lash = seen * line(y + lid, 0.012, pixel) * smooth_step(arch, -0.15, 0.1)
    image = over(image, lash, 0.25 * colors.skin)
    reach = 1.45 * size
    height = face.brow_height + 0.05 * view.brow_raise - 0.05 * (1 - (x / reach) ** 2)
    y = skin.v - face.eye_height + height + 0.05 + (face.brow_slant + 0.1 * view.brow_raise) * x
    half = face.brow_thickness * jnp.maximum(1 - 0.35 * x / reach, 0.2)
    brow = line(y, half, pixel) * ramp(jnp.abs(x) - reach, pixel)
    return over(image, seen * brow, colors.brow)


def _hair(image: Any, skin: Skin, face: Traits, colors: Colored) -> Any:
    """Paint the hair on the skull: above the forehead, at the temples and at the back."""
    around = 1 - skin.front
    limit = face.hairline + 0.12 * skin.side**2
    limit = limit + (face.eye_height + 0.12 - face.hairline) * smooth_step(around, 0.42, 0.9)
    fall = 1 - _bare(face)
    limit = limit + (0.35 + 0.5 * fall) * smooth_step(around, 1 - 0.3 * fall, 1.35 - 0.3 * fall)
    cover = ramp(skin.v - limit, 2 * skin.pixel)
    gloss = 1 + 0.25 * bump(((skin.v + 0.62) / 0.14) ** 2)
    return over(image, cover, colors.hair[:, None, None] * gloss[None])


def _glasses(image: Any, skin: Skin, face: Traits, view: Nuisance, seen: Any) -> Any:
    u, y = jnp.abs(skin.u), skin.v - face.eye_height
    radius = safe_root(((u - face.eye_distance - 0.01) / 0.185) ** 2 + ((y - 0.02) / 0.15) ** 2)
    image = over(
        image,
        seen * view.glasses * view.tint * ramp((radius - 1) * 0.16, skin.pixel),
        jnp.zeros(3),
    )
    rim = line((radius - 1) * 0.16, 0.016, skin.pixel)
    bar = line(y, 0.014, skin.pixel) * (jnp.abs(u - face.eye_distance) > 0.19)
    frame = view.glasses * jnp.maximum(seen * rim, bar * smooth_step(skin.front, -0.1, 0.0))
    return over(image, frame, jnp.array([0.10, 0.08, 0.08]))


def paint_nose(
    image: Any, skin: Skin, face: Traits, view: Nuisance, colors: Colored, shade: Any
) -> Any:
    """Paint the nose, a wedge that sticks out from between the eyes to the tip."""
    turn, cos, pixel = jnp.sin(view.yaw), jnp.cos(view.yaw), skin.pixel
    y = skin.v - face.eye_height
    down = jnp.clip(y / face.nose_length, 0, 1.1)
    root = DEPTH * jnp.sqrt(1 - jnp.minimum(skin.rounding, 0.6) ** 2) * turn
    out = _PROTRUSION * turn * down
    half = face.nose_width * cos * (0.35 + 0.65 * down**2) + 0.5 * jnp.abs(out) + 0.01
    x = (skin.x - skin.center - root - 0.5 * out) / half
    tip = ramp(y - face.nose_length - 0.04 + 0.05 * x**2, pixel)
    body = ramp((jnp.abs(x) - 1) * half, pixel + 0.03 * cos**2) * tip * smooth_step(y, -0.05, 0.15)
    body *= smooth_step(cos, -0.3, -0.1)
    lit = 1 + 0.16 * bump((1.3 * x) ** 2) + 0.10 * x * view.light_x - 0.10 * x**2 * down
    image = over(image, body, colors.skin[:, None, None] * lit[None] * shade)
    under = (y - face.nose_length - 0.01) / 0.045
    holes = ellipse(jnp.abs(x) - 0.45, 0.45 * under, 0.30, 0.30, pixel / half)
    return over(image, 0.75 * body * holes, 0.35 * colors.skin)

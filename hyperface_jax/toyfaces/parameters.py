"""The parameters of a toy face: the traits of a person, and the circumstances of a picture.

A person is a row of standard normal latents, which are squashed to traits within sensible ranges. The
nuisance of a picture is a row of its circumstances, each in its own unit. The unit of length is half
the height of the image. x points to the right and y down, and (0, 0) is the middle of the face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

_SQUASH = 1.5
"""Slope of the logistic that makes a normal latent nearly uniform over the range of its trait."""


class Traits(NamedTuple):
    """What stays the same in all pictures of a person.

    Attributes:
        face_width: half width of the face at the cheeks.
        face_height: distance of the chin below the middle of the face.
        jaw_width: width at the chin, as a share of the width at the cheeks.
        jaw_squareness: 0 for an oval lower face, 1 for a square one.
        skin_lightness: 0 for dark to 1 for light.
        skin_hue: 0 for yellow, 1 for pink.
        eye_distance: distance of an eye's center from the middle.
        eye_height: y of the eyes.
        eye_size: half width of an eye.
        eye_slant: slope of the eyes, positive if the outer corner is higher.
        eye_color: 0 to 1, from dark brown through hazel, green and blue to gray.
        brow_thickness: half thickness of the brows.
        brow_height: height of a brow above its eye.
        brow_slant: slope of the brows, positive if the outer end is higher.
        nose_length: distance from the eyes to the tip of the nose.
        nose_width: half width of the nose at the nostrils.
        mouth_height: position of the mouth between the tip of the nose (0) and the chin (1).
        mouth_width: half width of the mouth.
        lip_fullness: height of a lip.
        hair_lightness: 0 to 1, from black through brown to blond.
        hair_redness: 0 for no red to 1 for red.
        hairline: y at which the hair begins.
        hair_length: 0 for cropped to 1 for long.
        beard: opacity of the beard; there is none if it is below 0.
    """

    face_width: Any
    face_height: Any
    jaw_width: Any
    jaw_squareness: Any
    skin_lightness: Any
    skin_hue: Any
    eye_distance: Any
    eye_height: Any
    eye_size: Any
    eye_slant: Any
    eye_color: Any
    brow_thickness: Any
    brow_height: Any
    brow_slant: Any
    nose_length: Any
    nose_width: Any
    mouth_height: Any
    mouth_width: Any
    lip_fullness: Any
    hair_lightness: Any
    hair_redness: Any
    hairline: Any
    hair_length: Any
    beard: Any


RANGES = Traits(
    face_width=(0.50, 0.68),
    face_height=(0.70, 0.90),
    jaw_width=(0.60, 0.98),
    jaw_squareness=(0.0, 0.9),
    skin_lightness=(0.0, 1.0),
    skin_hue=(0.0, 1.0),
    eye_distance=(0.20, 0.31),
    eye_height=(-0.17, 0.01),
    eye_size=(0.09, 0.15),
    eye_slant=(-0.30, 0.35),
    eye_color=(0.0, 1.0),
    brow_thickness=(0.015, 0.055),
    brow_height=(0.12, 0.21),
    brow_slant=(-0.16, 0.24),
    nose_length=(0.24, 0.42),
    nose_width=(0.07, 0.16),
    mouth_height=(0.34, 0.56),
    mouth_width=(0.13, 0.27),
    lip_fullness=(0.02, 0.075),
    hair_lightness=(0.0, 1.0),
    hair_redness=(0.0, 1.0),
    hairline=(-0.74, -0.40),
    hair_length=(0.0, 1.0),
    beard=(-1.0, 1.0),
)
"""Least and largest value of each trait."""
NUM_IDENTITY = len(Traits._fields)
"""Number of latents of a person."""


class Nuisance(NamedTuple):
    """What differs between pictures of a person. Colors are RGB from 0 to 1.

    Attributes:
        yaw: turn of the head in radians; positive looks to the right of the picture.
        pitch: tilt in radians; positive looks up.
        roll: turn in the plane of the picture in radians; positive is clockwise.
        scale: scale of the face; 1 is the standard crop.
        shift_x: shift of the face to the right.
        shift_y: shift of the face down.
        light_x: where the light comes from, -1 for the left to 1 for the right.
        light_y: where the light comes from, -1 for above to 1 for below.
        light_strength: share of the light that has a direction, 0 to 1.
        exposure: factor that multiplies all brightness.
        warmth: -1 for blue light to 1 for orange light.
        mouth_open: 0 for closed to 1 for wide open.
        smile: -1 for a frown to 1 for a smile.
        brow_raise: -1 for lowered to 1 for raised brows.
        eye_closure: 0 for open to 1 for closed eyes.
        gaze: -1 for the left to 1 for the right.
        age: 0 for young to 1 for old.
        glasses: 0 for none, 1 for a frame.
        tint: tint of the lenses, 0 for clear to 1 for black.
        blur: standard deviation of the blur, as a share of the height of the image.
        noise: standard deviation of the noise of a pixel.
        noise_seed: integer below 2^24 that seeds the noise.
        block_x: x of the middle of a block that covers part of the face.
        block_y: y of the middle of the block.
        block_width: half width of the block; there is no block if it is below 0.
        block_height: half height of the block.
        blob_x: x of the middle of a blurred disk in the background.
        blob_y: y of the middle of the disk.
        blob_radius: radius of the disk.
        ground_angle: direction of the background's color gradient, in radians.
        block: color of the block.
        ground: color at the start of the background's gradient.
        ground_end: color at the end of the background's gradient.
        blob: color of the disk.
        cloth: color of the clothes.
    """

    yaw: Any
    pitch: Any
    roll: Any
    scale: Any
    shift_x: Any
    shift_y: Any
    light_x: Any
    light_y: Any
    light_strength: Any
    exposure: Any
    warmth: Any
    mouth_open: Any
    smile: Any
    brow_raise: Any
    eye_closure: Any
    gaze: Any
    age: Any
    glasses: Any
    tint: Any
    blur: Any
    noise: Any
    noise_seed: Any
    block_x: Any
    block_y: Any
    block_width: Any
    block_height: Any
    blob_x: Any
    blob_y: Any
    blob_radius: Any
    ground_angle: Any
    block: Any
    ground: Any
    ground_end: Any
    blob: Any
    cloth: Any


_NUM_COLORS = 5
_NUM_NUMBERS = len(Nuisance._fields) - _NUM_COLORS
NUM_NUISANCE = _NUM_NUMBERS + 3 * _NUM_COLORS
"""Length of a row of nuisance."""
_NUM_NORMALS, _NUM_UNIFORMS = 14, 36
"""How many normal and uniform random numbers a picture takes."""
NUM_NOISE = _NUM_NORMALS + _NUM_UNIFORMS
"""Number of standard normal numbers that decide the circumstances of a picture."""


def traits(latents: Float[Array, "*n 24"]) -> Traits:
    """Squash latents to traits.

    Args:
        latents: standard normal numbers, ``[..., 24]``.

    Returns:
        Traits within their ranges, ``[...]`` each.
    """
    shares = jax.nn.sigmoid(_SQUASH * latents)
    values = (low + (high - low) * shares[..., i] for i, (low, high) in enumerate(RANGES))
    return Traits(*values)


def pack_nuisance(nuisance: Nuisance) -> Float[Array, "*n m"]:
    """Join the circumstances of pictures, ``[...]`` and ``[..., 3]``, into rows ``[..., m]``."""
    numbers = jnp.stack([jnp.asarray(v, jnp.float32) for v in nuisance[:_NUM_NUMBERS]], -1)
    return jnp.concatenate([numbers, *nuisance[_NUM_NUMBERS:]], -1)


def unpack_nuisance(rows: Float[Array, "*n m"]) -> Nuisance:
    """Split rows ``[..., m]`` into numbers ``[...]`` and colors ``[..., 3]``."""
    numbers = (rows[..., i] for i in range(_NUM_NUMBERS))
    colors = (rows[..., i : i + 3] for i in range(_NUM_NUMBERS, NUM_NUISANCE, 3))
    return Nuisance(*numbers, *colors)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How much pictures vary. Angles are in degrees; a pair of numbers is a range.

    Attributes:
        yaw: standard deviation of small turns of the head.
        turned: probability of a large turn instead, to either side.
        turn: range of the angle of a large turn.
        pitch: standard deviation of the tilt of the head.
        roll: standard deviation of the turn in the plane of the picture.
        jitter: standard deviation of scale and shift.
        light: largest share of directed light.
        expression: amplitude of facial expressions, from 0 to 1.
        age: range of the age, from 0 for young to 1 for old.
        glasses: probability of glasses.
        block: probability that a block covers part of the face.
        blur: largest standard deviation of the blur, as a share of the height of the image.
        noise: largest standard deviation of the noise of a pixel.
    """

    yaw: float = 10
    turned: float = 0
    turn: tuple[float, float] = (60, 85)
    pitch: float = 5
    roll: float = 3
    jitter: float = 0.03
    light: float = 0.5
    expression: float = 0.7
    age: tuple[float, float] = (0.0, 0.4)
    glasses: float = 0.05
    block: float = 0
    blur: float = 0.01
    noise: float = 0.02


_WIDE = Circumstances(
    yaw=18,
    turned=0.15,
    turn=(40, 85),
    pitch=8,
    roll=5,
    jitter=0.05,
    light=0.7,
    expression=1,
    age=(0, 1),
    glasses=0.12,
    block=0.1,
    blur=0.02,
    noise=0.04,
)
_PORTRAIT = Circumstances(
    yaw=14,
    turned=0.1,
    turn=(25, 55),
    jitter=0.04,
    expression=0.8,
    age=(0, 0.6),
)
PRESETS: dict[str, tuple[Circumstances, Circumstances]] = {
    "training": (_WIDE, _WIDE),
    "portrait": (_PORTRAIT, _PORTRAIT),
    "easy": (Circumstances(), Circumstances()),
    "cross-pose": (Circumstances(), Circumstances(turned=1, turn=(25, 55), pitch=8)),
    "cross-age": (Circumstances(age=(0, 0.2)), Circumstances(age=(0.7, 1))),
    "frontal-profile": (Circumstances(yaw=4), Circumstances(turned=1)),
    "mixed": (_WIDE, _WIDE),
}
"""For each preset, the circumstances of the first and of the second picture of a pair."""
BENCHMARKS = ("easy", "cross-pose", "cross-age", "frontal-profile", "mixed")
"""Presets that mirror the standard verification sets."""


def preset_sides(preset: str) -> tuple[Circumstances, Circumstances]:
    """Return the circumstances of the first and of the second picture of a pair of a preset.

    Raises:
        InputError: there is no such preset.
    """
    if preset not in PRESETS:
        raise InputError(f"preset: unknown {one_line(preset)!r}; use one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def draw_nuisance(keys: Key[Array, " n"], how: Circumstances) -> Float[Array, "n m"]:
    """Draw the circumstances of pictures as rows ``[n, m]``, from one key for each picture."""
    return jax.vmap(lambda key: _picture(_drawn(key), how))(keys)


@jax.jit
def nuisance_of(noise: Float[Array, "n k"], how: Circumstances) -> Float[Array, "n m"]:
    """Return the circumstances that rows of standard normal noise, ``[n, NUM_NOISE]``, stand for."""

    def picture(row: Any) -> Any:
        uniforms = jax.scipy.special.ndtr(row[_NUM_NORMALS:])
        return _picture(_Draws(row[:_NUM_NORMALS], uniforms), how)

    return jax.vmap(picture)(noise)


def _drawn(key: Any) -> _Draws:
    """Draw each kind of number at once; programs with many draws compile slowly."""
    normal_key, uniform_key = jax.random.split(key)
    normals = jax.random.normal(normal_key, (_NUM_NORMALS,))
    return _Draws(normals, jax.random.uniform(uniform_key, (_NUM_UNIFORMS,)))


class _Draws:
    """Hands out normal and uniform random numbers, each once."""

    def __init__(self, normals: Any, uniforms: Any) -> None:
        self._normals, self._uniforms = normals, uniforms
        self._used = [0, 0]

    def normal(self, num: int) -> Any:
        """Return the next standard normal numbers, ``[num]``."""
        return self._next(0, self._normals, num)

    def uniform(self, num: int) -> Any:
        """Return the next numbers between 0 and 1, ``[num]``."""
        return self._next(1, self._uniforms, num)

    def _next(self, kind: int, numbers: Any, num: int) -> Any:
        start = self._used[kind]
        self._used[kind] += num
        assert self._used[kind] <= len(numbers)
        return numbers[start : start + num]


def _picture(draws: _Draws, how: Circumstances) -> Any:
    """Make one row of nuisance, ``[m]``."""
    young, old = how.age
    parts = {
        **_pose(draws, how),
        **_light(draws, how),
        **_expression(draws, how),
        **_worn(draws, how),
        **_lens(draws, how),
        **_block(draws, how),
        **_ground(draws),
        "age": young + (old - young) * draws.uniform(1)[0],
    }
    return pack_nuisance(Nuisance(**parts))


def _between(shares: Any, low: float, high: float) -> Any:
    return low + (high - low) * shares


def _pose(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    yaw, pitch, roll, scale, shift_x, shift_y = draws.normal(6)
    far, kind = draws.uniform(2)
    large = jnp.sign(yaw) * _between(far, *how.turn)
    return {
        "yaw": jnp.deg2rad(jnp.where(kind < how.turned, large, how.yaw * yaw)),
        "pitch": jnp.deg2rad(how.pitch * jnp.clip(pitch, -2.5, 2.5)),
        "roll": jnp.deg2rad(how.roll * roll),
        "scale": jnp.exp(how.jitter * scale),
        "shift_x": how.jitter * shift_x,
        "shift_y": how.jitter * shift_y,
    }


def _light(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    exposure, warmth, x = draws.normal(3)
    y, strength = draws.uniform(2)
    return {
        "light_x": jnp.clip(0.6 * x, -1, 1),
        "light_y": 0.3 - y,
        "light_strength": how.light * strength,
        "exposure": jnp.exp(0.25 * how.light * exposure),
        "warmth": how.light * jnp.clip(warmth, -2, 2),
    }


def _expression(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    opening, smile, raised, closure, gaze = how.expression * draws.normal(5)
    return {
        "mouth_open": jnp.clip(0.4 * opening - 0.1, 0, 1),
        "smile": jnp.clip(0.2 + 0.5 * smile, -0.6, 1),
        "brow_raise": jnp.clip(0.5 * raised, -1, 1),
        "eye_closure": jnp.clip(0.3 * closure, 0, 0.9),
        "gaze": jnp.clip(0.5 * gaze, -1, 1),
    }


def _worn(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    kind, tint = draws.uniform(2)
    return {
        "glasses": (kind < how.glasses).astype(jnp.float32),
        "tint": jnp.where(tint < 0.25, 0.85, 0.12),
        "cloth": _between(draws.uniform(3), 0.05, 0.9),
    }


def _lens(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    blur, noise, seed = draws.uniform(3)
    seed = jnp.floor(seed * (1 << 24))
    return {"blur": how.blur * blur, "noise": how.noise * noise, "noise_seed": seed}


def _block(draws: _Draws, how: Circumstances) -> dict[str, Any]:
    kind, x, y, width, height = draws.uniform(5)
    shown = kind < how.block
    return {
        "block_x": x - 0.5,
        "block_y": 1.4 * y - 0.6,
        "block_width": jnp.where(shown, 0.2 + 0.35 * width, -1.0),
        "block_height": jnp.where(shown, 0.1 + 0.2 * height, -1.0),
        "block": _between(draws.uniform(3), 0.1, 0.9),
    }


def _ground(draws: _Draws) -> dict[str, Any]:
    x, y, radius, angle = draws.uniform(4)
    colors = _between(draws.uniform(9).reshape(3, 3), 0.05, 0.95)
    # Most backgrounds are nearly gray.
    colors = 0.5 * (colors + jnp.mean(colors, axis=1, keepdims=True))
    return {
        "blob_x": 2 * x - 1,
        "blob_y": 2 * y - 1,
        "blob_radius": 0.2 + 0.6 * radius,
        "ground_angle": 2 * math.pi * angle,
        "ground": colors[0],
        "ground_end": colors[1],
        "blob": colors[2],
    }

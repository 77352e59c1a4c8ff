"""The population of the world of toy faces, and the circumstances in which its pictures are taken.

Everything is drawn from a key, the number of the person and the number of the picture, so a picture is
the same in any batch.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_text, one_line, os_input_error
from hyperface_jax.toyfaces.parameters import (
    BENCHMARKS,
    NUM_IDENTITY,
    Circumstances,
    Traits,
    draw_nuisance,
    preset_sides,
)
from hyperface_jax.toyfaces.renderer import draw_batches

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    from hyperface_jax.io.files import StrPath
    from hyperface_jax.typing import PRNGKey

ROLES = ("recognition", "generation", "gallery", "reference", "test")
"""Purposes of sets of persons; sets with different roles have no person in common."""
GROUP_SHARES = (0.42, 0.24, 0.16, 0.11, 0.07)
"""Share of each group in the population."""

_GROUP_MEANS: tuple[dict[str, float], ...] = (
    {"skin_lightness": 0.8, "hair_lightness": -0.1, "eye_color": 0.3},
    {
        "skin_lightness": -1.1,
        "hair_lightness": -1.6,
        "hair_redness": -0.8,
        "eye_color": -1.3,
        "nose_width": 0.7,
        "lip_fullness": 0.8,
    },
    {
        "skin_lightness": 0.3,
        "skin_hue": -0.9,
        "hair_lightness": -1.5,
        "hair_redness": -0.8,
        "eye_color": -1.2,
        "eye_slant": 0.7,
    },
    {
        "skin_lightness": -0.1,
        "skin_hue": -0.4,
        "hair_lightness": -1.0,
        "eye_color": -0.6,
        "brow_thickness": 0.7,
        "nose_length": 0.6,
    },
    {
        "skin_lightness": 1.2,
        "skin_hue": 0.8,
        "hair_lightness": 1.0,
        "hair_redness": 0.5,
        "eye_color": 0.9,
    },
)
_BUILD = {
    "beard": 0.9,
    "hair_length": -0.9,
    "jaw_width": 0.4,
    "jaw_squareness": 0.4,
    "brow_thickness": 0.4,
    "face_width": 0.3,
    "eye_size": -0.3,
    "lip_fullness": -0.3,
}
"""Half of the difference between the two builds that exist in every group."""
_COLORS = ("skin_lightness", "skin_hue", "hair_lightness", "hair_redness", "eye_color")
_COLOR_SPREAD = 0.6
"""Factor by which colors vary less than shapes within a group."""
_NUM_FACTORS = 6
_SHARED = 0.55
"""Share of the variance within a group that is explained by a few factors."""
_PERSON, _PICTURE, _COUNT, _PAIR = range(4)
_BLOCK = 256
"""Number of persons or pictures to draw at a time."""


class Identities(NamedTuple):
    """Persons.

    Attributes:
        latents: latents of the persons, ``[n, 24]``.
        group: number of the group that each person belongs to, int32 ``[n]``, from 0.
    """

    latents: Float[Array, "n 24"]
    group: Int[Array, " n"]


class DrawnPairs(NamedTuple):
    """Pairs of pictures for verification.

    Attributes:
        first: latents of the person in the first picture, ``[n, 24]``.
        second: latents of the person in the second picture, ``[n, 24]``.
        first_nuisance: circumstances of the first picture, ``[n, m]``.
        second_nuisance: circumstances of the second picture, ``[n, m]``.
        groups: groups of the two persons, ``[n, 2]``.
        is_same: whether both pictures show the same person, bool ``[n]``.
    """

    first: Float[Array, "n 24"]
    second: Float[Array, "n 24"]
    first_nuisance: Float[Array, "n m"]
    second_nuisance: Float[Array, "n m"]
    groups: Int[Array, "n 2"]
    is_same: Bool[Array, " n"]


def split_key(seed: int, role: str) -> PRNGKey:
    """Return the key of the persons with a role in the world of a seed.

    Raises:
        InputError: there is no such role.
    """
    if role not in ROLES:
        raise InputError(f"role: unknown {one_line(role)!r}; use one of {', '.join(ROLES)}")
    return jax.random.fold_in(jax.random.key(seed), ROLES.index(role))


def sample_identities(key: PRNGKey, num: int, *, start: int = 0) -> Identities:
    """Draw persons from the population.

    Traits vary by unequal groups, by two builds, by a few common factors, and independently.

    Args:
        key: key from :func:`split_key`.
        num: number of persons.
        start: number of the first person; person ``i`` depends only on the key and ``i``.

    Returns:
        The persons ``start`` to ``start + num - 1``.
    """
    return persons_at(key, np.arange(start, start + num))


def persons_at(key: PRNGKey, numbers: Any) -> Identities:
    """Draw the persons with the given numbers, ``[n]``; see :func:`sample_identities`."""
    return Identities(*_in_blocks(partial(_persons, key), numbers))


def image_counts(key: PRNGKey, num: int, *, mean: float) -> np.ndarray:
    """Draw unequal, log-normal numbers of pictures for the first ``num`` persons.

    Returns:
        Numbers from 2 to ``4 * mean``, ``[num]``.

    Raises:
        InputError: the mean is below 2.
    """
    if not 2 <= mean < math.inf:
        raise InputError(f"mean={mean}: must be 2 or more, so that persons have another picture")
    keys = _numbered(key, _COUNT, jnp.arange(num))
    normal = np.asarray(jax.vmap(jax.random.normal)(keys), np.float64)
    counts = np.rint(mean * np.exp(0.5 * normal - 0.125))
    return np.clip(counts, 2, 4 * mean).astype(np.int64)


def sample_nuisance(key: PRNGKey, num: int, *, preset: str, side: int = 0) -> Float[Array, "n m"]:
    """Draw the circumstances of the first ``num`` pictures of person 0.

    Args:
        key: key of the set of persons.
        num: number of pictures.
        preset: a key of ``PRESETS``.
        side: whether to draw for the first (0) or the second (1) picture of a pair.

    Returns:
        Rows for :func:`hyperface_jax.toyfaces.renderer.render`, ``[num, m]``.

    Raises:
        InputError: there is no such preset or side.
    """
    picture = np.arange(num)
    return image_nuisance(key, np.zeros_like(picture), picture, preset=preset, side=side)


def image_nuisance(
    key: PRNGKey, person: Any, picture: Any, *, preset: str, side: int = 0
) -> Float[Array, "n m"]:
    """Draw the circumstances of given pictures of given persons.

    Args:
        key: key of the set of persons.
        person: number of the person in each picture, ``[n]``.
        picture: number of each picture among those of its person, ``[n]``.
        preset: a key of ``PRESETS``.
        side: whether to draw for the first (0) or the second (1) picture of a pair.

    Returns:
        Rows for :func:`hyperface_jax.toyfaces.renderer.render`, ``[n, m]``.

    Raises:
        InputError: there is no such preset or side.
    """
    sides = preset_sides(preset)
    if side not in (0, 1):
        raise InputError(f"side={side}: must be 0 or 1")
    return _drawn(key, _PICTURE, person, picture, sides[side])


def benchmark_pairs(key: PRNGKey, preset: str, num_pairs: int) -> DrawnPairs:
    """Draw pairs of pictures, which alternately show one person and two persons.

    Each pair shows new persons. Every other pair of two persons is within a group, which is harder; the
    remaining ones are across groups.

    Args:
        key: key from :func:`split_key` for the role ``test``.
        preset: a key of ``PRESETS``.
        num_pairs: number of pairs.

    Returns:
        The pairs; pair ``i`` depends only on the key, the preset and ``i``.

    Raises:
        InputError: there is no such preset.
    """
    sides = preset_sides(preset)
    order = np.arange(num_pairs)
    first, second, groups = _in_blocks(partial(_two_persons, key), order)
    one, other = (
        _drawn(key, _PAIR, order, np.full_like(order, 2 + i), side) for i, side in enumerate(sides)
    )
    return DrawnPairs(first, second, one, other, groups, jnp.asarray(order % 2 == 0))


def _drawn(key: PRNGKey, stream: int, first: Any, second: Any, how: Circumstances) -> Any:
    how = jax.tree.map(float, how)
    return _in_blocks(lambda *numbers: _pictures(key, stream, *numbers, how), first, second)


def _in_blocks(program: Callable[..., Any], *numbers: Any) -> Any:
    """Run a program on rows of numbers padded to whole blocks, so that it compiles only once."""
    columns, num = [np.asarray(column) for column in numbers], len(numbers[0])
    parts = [
        program(*(np.resize(column[start : start + _BLOCK], _BLOCK) for column in columns))
        for start in range(0, max(num, 1), _BLOCK)
    ]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[:num]), *parts)


def _numbered(key: PRNGKey, stream: Any, numbers: Any) -> Any:
    key = jax.random.fold_in(key, stream)
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)


# Persons


def _vector(values: dict[str, float], rest: float = 0.0) -> np.ndarray:
    return np.array([values.get(name, rest) for name in Traits._fields], np.float32)


def _factors() -> np.ndarray:
    """Return the loadings of the traits on the factors, ``[24, factors]``, with rows of length 1."""
    loadings = np.random.default_rng(0).normal(size=(NUM_IDENTITY, _NUM_FACTORS))
    return (loadings / np.linalg.norm(loadings, axis=1, keepdims=True)).astype(np.float32)


def _person(key: Any, group: Any) -> Any:
    """Draw the latents of a person of a group, ``[24]``."""
    normals = jax.random.normal(key, (1 + _NUM_FACTORS + NUM_IDENTITY,))
    factors, rest = normals[None, 1 : 1 + _NUM_FACTORS], normals[1 + _NUM_FACTORS :]
    means = jnp.asarray(np.stack([_vector(means) for means in _GROUP_MEANS]))
    build = jnp.sign(normals[0])
    shared = jnp.sum(jnp.asarray(_factors()) * factors, axis=1)
    within = math.sqrt(_SHARED) * shared + math.sqrt(1 - _SHARED) * rest
    spread = _vector(dict.fromkeys(_COLORS, _COLOR_SPREAD), 1.0)
    return means[group] + build * _vector(_BUILD) + spread * within


def _group(key: Any, without: Any = -1) -> Any:
    """Draw a group according to the shares, excluding one group."""
    shares = jnp.log(jnp.asarray(GROUP_SHARES))
    allowed = jnp.arange(len(GROUP_SHARES)) != without
    return jax.random.categorical(key, jnp.where(allowed, shares, -jnp.inf)).astype(jnp.int32)


@jax.jit
def _persons(key: Any, numbers: Any) -> tuple[Any, Any]:
    return jax.vmap(_anyone)(_numbered(key, _PERSON, numbers))


def _anyone(key: Any) -> tuple[Any, Any]:
    """Draw the latents and the group of a person."""
    group_key, person_key = jax.random.split(key)
    group = _group(group_key)
    return _person(person_key, group), group


@jax.jit
def _two_persons(key: Any, numbers: Any) -> tuple[Any, Any, Any]:
    return jax.vmap(_any_two)(_numbered(key, _PAIR, numbers), numbers % 4)


@jax.jit
def _pictures(key: Any, stream: Any, first: Any, second: Any, how: Circumstances) -> Any:
    """Draw the circumstances of pictures, each identified by two numbers."""
    keys = jax.vmap(jax.random.fold_in)(_numbered(key, stream, first), second)
    return draw_nuisance(keys, how)


def _any_two(key: Any, kind: Any) -> tuple[Any, Any, Any]:
    """Draw the same person twice (kind 0 and 2), or two persons of one group (1) or of two (3)."""
    first_key, second_key = (jax.random.fold_in(key, i) for i in range(2))
    group_key, person_key = jax.random.split(first_key)
    other_key, other_person_key = jax.random.split(second_key)
    group = _group(group_key)
    first = _person(person_key, group)
    other = jnp.where(kind == 3, _group(other_key, group), group)
    second = jnp.where(kind % 2 == 0, first, _person(other_person_key, other))
    return first, second, jnp.stack([group, other])


# Files


def write_folder(
    path: StrPath,
    latents: Float[Array, "n 24"],
    counts: Sequence[int] | np.ndarray,
    *,
    key: PRNGKey,
    preset: str = "training",
    size: int = 32,
) -> None:
    """Draw pictures of persons and write them as ``PERSON/PICTURE.png``.

    The folder appears when it is complete.

    Args:
        path: the folder, which must not exist; its parent must exist.
        latents: latents of the persons, ``[n, 24]``.
        counts: number of pictures for each person, ``[n]``.
        key: key from which the circumstances are drawn.
        preset: a key of ``PRESETS``.
        size: height and width of the pictures, in pixels.

    Raises:
        InputError: the folder exists or cannot be written, or an argument is invalid.
    """
    if len(counts) != len(latents):
        raise InputError(f"counts: {len(counts)} for {len(latents)} persons; give one each")
    person = np.repeat(np.arange(len(counts)), counts)
    picture = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)])
    nuisance = image_nuisance(key, person, picture, preset=preset)
    names = [f"{i:06d}/{j:04d}.png" for i, j in zip(person, picture, strict=True)]
    with _new_folder(path) as folder:
        for i in range(len(counts)):
            (folder / f"{i:06d}").mkdir()
        _write_images(folder, names, np.asarray(latents)[person], nuisance, size)


def write_attributes(path: StrPath, latents: Float[Array, "n 24"]) -> None:
    """Write the traits of persons as a ``.csv`` for ``hyperface train --attributes``.

    Args:
        path: the file to write, with a header and one line per person; persons are named as in
            :func:`write_folder`.
        latents: latents of the persons, ``[n, 24]``.

    Raises:
        InputError: the file cannot be written.
    """
    # Latents are written rather than traits, which crowd at the ends of their ranges.
    lines = [",".join(("identity", *Traits._fields))]
    for i, row in enumerate(np.clip(np.asarray(latents), -2.5, 2.5)):
        lines.append(",".join((f"{i:06d}", *(f"{value:.5f}" for value in row))))
    atomic_write_text(path, "\n".join(lines) + "\n")


def write_pairs(path: StrPath, pairs: DrawnPairs, *, size: int = 32) -> Path:
    """Draw pairs and write them as ``NUMBERa.png`` and ``NUMBERb.png`` with a list of them.

    The list has the name of the folder, which appears when it is complete. A line of the list is
    ``a.png b.png 1`` for one person, or ends in 0 for two persons.

    Args:
        path: the folder, which must not exist; its parent must exist.
        pairs: pairs from :func:`benchmark_pairs`.
        size: height and width of the pictures, in pixels.

    Returns:
        The path of the list.

    Raises:
        InputError: the folder exists or cannot be written.
    """
    numbers = [f"{i:06d}" for i in range(len(pairs.is_same))]
    with _new_folder(path) as folder:
        for side, latents, nuisance in (
            ("a", pairs.first, pairs.first_nuisance),
            ("b", pairs.second, pairs.second_nuisance),
        ):
            names = [f"{number}{side}.png" for number in numbers]
            _write_images(folder, names, latents, nuisance, size)
        rows = zip(numbers, np.asarray(pairs.is_same), strict=True)
        lines = [f"{number}a.png {number}b.png {int(same)}\n" for number, same in rows]
        atomic_write_text(folder / f"{Path(path).name}.txt", "".join(lines))
    return Path(path) / f"{Path(path).name}.txt"


def benchmark_lists(folder: StrPath) -> dict[str, Path]:
    """Return the path at which :func:`write_benchmarks` puts the list of each benchmark."""
    return {name: Path(folder) / name / f"{name}.txt" for name in BENCHMARKS}


def write_benchmarks(folder: StrPath, seed: int, num_pairs: int) -> None:
    """Write the pairs of each of ``BENCHMARKS`` below a folder, unless they already exist.

    Args:
        folder: an existing folder.
        seed: seed of the world; the pairs show its test persons.
        num_pairs: number of pairs in each benchmark.

    Raises:
        InputError: a file cannot be written.
    """
    for name, found in benchmark_lists(folder).items():
        if not found.exists():
            write_pairs(found.parent, benchmark_pairs(split_key(seed, "test"), name, num_pairs))


def _write_images(folder: Path, names: Sequence[str], latents: Any, rows: Any, size: int) -> None:
    from hyperface_jax.io.images import encode

    images = chain.from_iterable(draw_batches(latents, rows, size=size))
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(encode(image))


@contextmanager
def _new_folder(path: StrPath) -> Iterator[Path]:
    """Make a folder next to ``path`` that is renamed to it if the block succeeds."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    if os.path.lexists(target):
        raise InputError(f"{one_line(path)}: is there already; remove it or choose another folder")
    try:
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(target)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

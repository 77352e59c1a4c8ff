"""Soft-edged shapes on the pixel grid, and colors painted over one another."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def ramp(distance: Any, width: Any) -> Any:
    """Return the share of a pixel inside a shape, from the signed distance to its edge."""
    return jnp.clip(0.5 - distance / width, 0, 1)


def safe_root(square: Any) -> Any:
    """Return a square root that has a finite gradient at 0."""
    return jnp.sqrt(jnp.maximum(square, 1e-6))


def ellipse(x: Any, y: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the coverage of an ellipse; one thinner than a pixel becomes faint rather than wide."""
    thin = jnp.minimum(a, b)
    cover = ramp((safe_root((x / a) ** 2 + (y / b) ** 2) - 1) * thin, width)
    return cover * jnp.minimum(1, 2 * thin / width)


def line(distance: Any, half: Any, width: Any) -> Any:
    """Return the coverage of a line of half thickness ``half`` along zero distance."""
    return ramp(jnp.abs(distance) - half, width) * jnp.minimum(1, 2 * half / width)


def bump(square: Any) -> Any:
    """Return a soft spot, which falls from 1 in the middle to 0 where the squared radius is 1."""
    return jnp.maximum(1 - square, 0) ** 2


def smooth_step(x: Any, low: Any, high: Any) -> Any:
    """Go from 0 at ``low`` to 1 at ``high`` without a corner."""
    t = jnp.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def over(image: Any, cover: Any, color: Any) -> Any:
    """Paint a color, ``[3]`` or ``[3, size, size]``, over an image with the opacity ``cover``."""
    color = color[:, None, None] if jnp.ndim(color) == 1 else color
    return image + cover[None] * (color - image)


def palette(place: Any, colors: Any) -> Any:
    """Interpolate a sequence of colors at a place from 0 to 1."""
    table = jnp.asarray(colors, jnp.float32)
    places = jnp.arange(len(colors), dtype=jnp.float32)
    weights = jnp.maximum(0, 1 - jnp.abs(place * (len(colors) - 1) - places))
    return jnp.sum(weights[:, None] * table, 0)


def mixed(first: Any, second: Any, share: Any) -> Any:
    """Mix a share of the second color into the first."""
    return first + share * (jnp.asarray(second, jnp.float32) - first)

"""Soft-edged shapes on the pixel grid, and colors laid over one another."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def ramp(distance: Any, width: Any) -> Any:
    """Return how much of a pixel is inside, from the signed distance to the edge."""
    return jnp.clip(0.5 - distance / width, 0, 1)


def safe_root(square: Any) -> Any:
    """Return a square root whose gradient is finite at 0."""
    return jnp.sqrt(jnp.maximum(square, 1e-6))


def ellipse(x: Any, y: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the cover of an ellipse; one that is thinner than a pixel is faint instead of wide."""
    thin = jnp.minimum(a, b)
    cover = ramp((safe_root((x / a) ** 2 + (y / b) ** 2) - 1) * thin, width)
    return cover * jnp.minimum(1, 2 * thin / width)


def line(distance: Any, half: Any, width: Any) -> Any:
    """Return the cover of a line of half thickness ``half`` at a distance of zero."""
    return ramp(jnp.abs(distance) - half, width) * jnp.minimum(1, 2 * half / width)


def bump(square: Any) -> Any:
    """Return a soft spot: 1 in the middle to 0 where the squared radius is 1."""
    return jnp.maximum(1 - square, 0) ** 2


def smooth_step(x: Any, low: Any, high: Any) -> Any:
    """Go from 0 at ``low`` to 1 at ``high`` without a corner."""
    t = jnp.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def over(image: Any, cover: Any, color: Any) -> Any:
    """Paint a color, ``[3]`` or ``[3, size, size]``, where ``cover`` says."""
    color = color[:, None, None] if jnp.ndim(color) == 1 else color
    return image + cover[None] * (color - image)


def palette(place: Any, colors: Any) -> Any:
    """Return the color at a place from 0 to 1 of a row of colors."""
    table = jnp.asarray(colors, jnp.float32)
    places = jnp.arange(len(colors), dtype=jnp.float32)
    weights = jnp.maximum(0, 1 - jnp.abs(place * (len(colors) - 1) - places))
    return jnp.sum(weights[:, None] * table, 0)


def mixed(first: Any, second: Any, share: Any) -> Any:
    """Return a color with a share of another."""
    return first + share * (jnp.asarray(second, jnp.float32) - first)

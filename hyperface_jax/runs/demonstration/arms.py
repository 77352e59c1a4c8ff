"""The arms of a closed loop: different ways to choose and draw identities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hyperface_jax.toyfaces.pretrained import PARAMETRIC_NAME, RECOGNIZER

if TYPE_CHECKING:
    from hyperface_jax.runs.demonstration.closed_loop import ClosedLoop
    from hyperface_jax.runs.demonstration.sizes import Size

PACKED, PAPER, UNPACKED, KEEP_OUT = "packed", "paper", "unpacked", "keep-out"
REAL, FARTHEST_REAL = "real", "farthest-real"
SYNTHETIC = (PACKED, PAPER, UNPACKED)
"""Arms that choose synthetic identities to train a recognizer on."""
OF_PERSONS = (REAL, FARTHEST_REAL)
"""Arms of real persons: at random, and the farthest of a crowd."""
TRAINED = (*SYNTHETIC, *OF_PERSONS)
DRAWN = (*SYNTHETIC, KEEP_OUT)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to choose identities and draw them. None takes the number of the closed loop.

    Attributes:
        name: name of the arm and of its folders.
        num_ids: number of identities.
        images_per_id: number of images for each identity.
        alpha: weight of the gallery.
        neighbors: number of gallery rows whose span stands for the face manifold.
        generator: name of the generator.
        packing: further settings of its :class:`.Pack`, by field.
        synthesis: further settings of its :class:`.Synthesize`, by field.
    """

    name: str
    num_ids: int | None = None
    images_per_id: int | None = None
    alpha: float | None = None
    neighbors: int | None = None
    generator: str = PARAMETRIC_NAME
    packing: Mapping[str, Any] = field(default_factory=dict)
    synthesis: Mapping[str, Any] = field(default_factory=dict)


def arms_of(loop: ClosedLoop) -> list[Arm]:
    """Return the arms to compare; the one with keep-out is drawn only to measure its leakage."""
    few = min(2, loop.size.images_per_id)
    return [
        Arm(name=PACKED),
        paper_arm(loop.size),
        Arm(name=UNPACKED, packing={"steps": 0}),
        Arm(name=KEEP_OUT, packing=keep_out(loop), images_per_id=few),
    ]


def keep_out(loop: ClosedLoop) -> dict[str, Any]:
    """Return the settings that keep a packing away from the real persons."""
    return {"keep_out": loop.reference, "keep_out_cosine": round(loop.threshold, 6)}


def through(generator: str = PARAMETRIC_NAME, **settings: Any) -> dict[str, Any]:
    """Return the settings of a packing through a generator."""
    return {"through": generator, "recognizer": RECOGNIZER, "crop": "none", **settings}


def paper_arm(size: Size) -> Arm:
    """Return the paper's algorithm: the nearest row, one pair per step, 100 steps per identity."""
    settings = {"method": "paper", "steps": 100 * size.num_ids}
    return Arm(name=PAPER, alpha=2.0, neighbors=1, packing=settings)

"""``hyperface bounds``: what no packing can beat, and what a known one reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperface_jax import bounds
from hyperface_jax.errors import InputError

if TYPE_CHECKING:
    from hyperface_jax.codes import SphericalCode


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Print the best lower bound on the max cosine of N unit vectors in R^D, and the best code."""

    num_ids: int
    """Number of identities."""
    dim: int
    """Dimension of the sphere's space."""
    verify: bool = False
    """Compute the code's max cosine as well: over all words where it is linear, else over all pairs."""

    def run(self) -> int:
        """Print the tightest bound and the best known code."""
        from hyperface_jax.codes import best_known

        try:
            tightest = bounds.tightest(self.num_ids, self.dim)
            code = best_known(self.num_ids, self.dim)
        except ValueError as error:
            raise InputError(f"--num-ids {self.num_ids} --dim {self.dim}: {error}") from error
        angle = math.degrees(math.acos(tightest.value))
        print(f"{self.num_ids} points in {self.dim} dimensions: ({tightest.name} bound)")
        print(f"  max cosine >= {tightest.value:.9f}")
        print(f"  min angle  <= {angle:.6f} degrees")
        print(f"  best known:   {code.max_cosine:.9f} ({code.name})")
        if self.verify:
            self._verify(code)
        return 0

    def _verify(self, code: SphericalCode) -> None:
        from hyperface_jax.codes import verify

        try:
            found = verify(code)
        except ValueError as error:
            raise InputError(f"--verify: {error}") from error
        print(f"  verified:     {found.max_cosine:.9f} over all {found.method}")

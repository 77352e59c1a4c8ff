"""``hyperface faces``: random faces for a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from hyperface_jax.cli.pack import warn
from hyperface_jax.cli.progress import ImageProgress
from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Draw random faces with a diffusion model, for hyperface embed.

    Run the same command again to resume a folder, or with a larger --num to extend it.
    """

    source: str
    """Folder of an unconditional diffusers pipeline, or module:function of (seed, indices) in Python."""
    out: Path
    """Folder of .png files, or a .tar."""
    num: int = 10_000
    """Number of faces."""
    seed: int = 0
    """Seed of the noise."""
    batch_size: int = 16
    """Faces drawn at once."""
    silent: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress."""

    def run(self) -> int:
        """Draw the faces."""
        from hyperface_jax.faces.drawing import write_faces

        try:
            kept = len(list(self.out.glob("*.png")))
            with ImageProgress("drawing faces", self.num, kept, is_silent=self.silent) as progress:
                flat = write_faces(
                    self.source,
                    self.out,
                    self.num,
                    seed=self.seed,
                    batch_size=self.batch_size,
                    progress=progress.update,
                )
        except ImportError as error:
            needed = "pip install 'hyperface_jax[synthesis]'"
            raise InputError(f"drawing faces needs {error.name}: {needed}") from error
        if flat:
            warn(
                f"{len(flat)} faces came out of one color and were left out, such as {flat[0]}: the "
                "generator fails now and then"
            )
        print(f"{self.num - len(flat)} faces: {one_line(self.out)}")
        return 0

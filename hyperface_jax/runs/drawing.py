"""The ``faces`` stage: it draws random faces for a gallery."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from hyperface_jax.errors import Stopped, require
from hyperface_jax.faces import write_faces
from hyperface_jax.io.files import one_line
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Draw random faces with a diffusion model. Embed them next to make a gallery.

    To resume, run the same command again. To add faces to a finished folder, run it with a larger num.
    """

    source: str
    """Folder of an unconditional diffusers pipeline, or a Python function of (seed, indices), given as
    module:function."""
    out: Path
    """Folder for the .png files, or a .tar file to write."""
    num: int = 10_000
    """Number of faces to draw."""
    seed: int = 0
    """Random seed for the noise."""
    batch_size: int = option(16, group="machine")
    """Number of faces to draw at once."""


def faces(config: Faces, *, watch: Watch = QUIET) -> Result:
    """Draw random faces.

    The same call resumes an unfinished folder; a larger ``num`` extends a finished one.

    Args:
        config: the settings.
        watch: receives messages and progress, and can stop the run; writing a .tar cannot stop halfway.

    Returns:
        The number of faces, and the folder or file.

    Raises:
        InputError: a setting or the source cannot be used, or ``out`` holds something else.
        Stopped: a stop was requested; the faces drawn so far are saved.
    """
    _check_settings(config)
    kept = min(len(list(config.out.glob("*.png"))), config.num)
    can_stop = config.out.suffix.lower() != ".tar"
    opened = watch.progress("drawing faces", "images", config.num, kept)
    stopping = watch.stopping() if can_stop else nullcontext(lambda: False)
    with stopping as is_asked, opened as update:

        def progress(done: float, figure: str = "", /) -> None:
            update(done, figure)
            if done < config.num and is_asked():
                raise Stopped(config.out)

        flat = write_faces(
            config.source,
            config.out,
            config.num,
            seed=config.seed,
            batch_size=config.batch_size,
            progress=progress,
        )
    if flat:
        watch.warn(
            f"{len(flat)} faces came out of one color and were left out, such as {flat[0]}: the "
            "generator sometimes fails"
        )
    num = config.num - len(flat)
    summary = {"num_faces": num, "num_left_out": len(flat), "seed": config.seed}
    return Result(config.out, summary, f"{num} faces: {one_line(config.out)}")


def _check_settings(config: Faces) -> None:
    checks = [
        ("num", config.num >= 1, "at least 1"),
        ("seed", config.seed >= 0, "0 or more"),
        ("batch_size", config.batch_size >= 1, "at least 1"),
    ]
    require(config, checks)

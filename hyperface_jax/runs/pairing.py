"""The ``pairs`` stage: it draws a verification benchmark from a folder of people."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from hyperface_jax.errors import InputError, require
from hyperface_jax.evaluation.pair_drawing import draw_pairs
from hyperface_jax.faces import open_images
from hyperface_jax.io.claims import refuse_foreign_file
from hyperface_jax.io.files import atomic_write_text, one_line, writing
from hyperface_jax.io.image_folders import skipped_text
from hyperface_jax.io.pair_lists import CSV_COLUMNS
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import option
from hyperface_jax.runs.support.watch import QUIET, Watch

_HEADER = ",".join(CSV_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Draw pairs of images from a folder of people, as a benchmark for evaluate.

    Half of the pairs are of one person, in ten folds. The same images and seed give the same file.
    """

    images: Path = option(is_positional=True)
    """Folder with one subfolder of images for each person."""
    out: Path
    """.csv file to write, with the columns path1,path2,label. Paths are relative to the folder."""
    num: int = 6000
    """Number of pairs, a multiple of 20."""
    seed: int = 0
    """Random seed."""


def pairs(config: Pairs, *, watch: Watch = QUIET) -> Result:
    """Draw pairs of images from a folder of people.

    Args:
        config: the settings.
        watch: receives warnings.

    Returns:
        The numbers of pairs, images and persons, and the file.

    Raises:
        InputError: a setting or the folder cannot be used, or it has too few pairs.
    """
    _check_settings(config)
    found = open_images(config.images)
    if found.skipped:
        watch.warn(f"{one_line(config.images)}: {skipped_text(found.skipped)}")
    names = np.array(found.names)
    people = [PurePosixPath(name).parent.as_posix() for name in found.names]
    if "." in people:
        raise InputError(
            f"{one_line(config.images)}: {one_line(names[people.index('.')])} lies in no folder of a "
            "person; give a folder of folders"
        )
    drawn = draw_pairs(people, config.num, seed=config.seed)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    rows = zip(names[drawn.first], names[drawn.second], drawn.is_same.astype(int), strict=True)
    writer.writerows([CSV_COLUMNS, *rows])
    with writing(config.out):
        config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(config.out, table.getvalue())
    num_used = len(np.union1d(drawn.first, drawn.second))
    summary = {
        "num_pairs": config.num,
        "num_people": len(set(people)),
        "num_images": len(names),
        "num_images_in_pairs": num_used,
        "seed": config.seed,
    }
    text = f"{config.num} pairs of {num_used} images: {one_line(config.out)}"
    return Result(config.out, summary, text)


def _check_settings(config: Pairs) -> None:
    require(config, [("seed", config.seed >= 0, "0 or more")])
    if config.out.suffix.lower() != ".csv":
        raise InputError(f"`out={one_line(config.out)}`: must end in .csv")
    if config.images.exists() and not config.images.is_dir():
        raise InputError(f"`images={one_line(config.images)}`: is no folder; unpack it")
    refuse_foreign_file(config.out, "pairs", _is_ours)


def _is_ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n") == _HEADER

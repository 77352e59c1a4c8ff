"""``hyperface demo``: the whole method in a world of toy faces."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_json, one_line, read_json

if TYPE_CHECKING:
    from hyperface_jax.cli.closed_loop.sizes import Size
    from hyperface_jax.cli.closed_loop.stages import Loop

_SETTINGS = "demo.json"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole method in a world of toy faces, and write one report.

    Gallery, packing, synthesis, recognition, evaluation, leakage: on this machine, without downloads.
    Run the same command again to resume.
    """

    out: Path | None = None
    """Folder for the stages and report.html. Default: runs/demo, runs/quick or runs/full."""
    quick: bool = False
    """A small world, to see every stage at work; too small to tell ways to choose identities apart."""
    full: bool = False
    """A larger world: an hour or more instead of minutes on two cores."""
    num_ids: int | None = None
    """Synthetic identities, for another size."""
    images_per_id: int | None = None
    """Images of each."""
    gallery: int | None = None
    """Random faces in the gallery."""
    epochs: int | None = None
    """Passes of each training."""
    alpha: float | None = None
    """Weight of the gallery in the packing."""
    neighbors: int | None = None
    """Gallery rows whose span stands for the face manifold in the packing."""
    pairs: int | None = None
    """Pairs of each verification set."""
    test_ids: int | None = None
    """Held-out persons."""
    reference_ids: int | None = None
    """Real persons who must not leak."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> int:
        """Run the stages that are not done, then write the report."""
        try:
            from hyperface_jax.cli.closed_loop.commands import Stopped
            from hyperface_jax.cli.closed_loop.report import write_report
            from hyperface_jax.cli.closed_loop.stages import STAGES
        except ImportError as error:
            needed = "pip install 'hyperface_jax[cli,recognition,synthesis]'"
            raise InputError(f"the demo needs {error.name}: {needed}") from error
        loop = self.loop()
        _announce(loop)
        seconds: dict[str, float] = {}
        try:
            for i, stage in enumerate(STAGES, start=1):
                name = stage.__name__.replace("_", " ")
                print(f"\n== {i} of {len(STAGES) + 1}: {name}", flush=True)
                start = time.perf_counter()
                stage(loop)
                seconds[name] = time.perf_counter() - start
        except Stopped as stopped:
            return stopped.code
        print(f"\n== {len(STAGES) + 1} of {len(STAGES) + 1}: report", flush=True)
        page = write_report(loop, seconds)
        print(f"\nopen {one_line(page)} in a browser")
        return 0

    def loop(self) -> Loop:
        """Return the loop, its settings written in its folder.

        Raises:
            InputError: a setting cannot work, or the folder belongs to a loop of other settings.
        """
        from hyperface_jax.cli.closed_loop.stages import Loop

        size = self._size()
        name = "quick" if self.quick else "full" if self.full else "demo"
        out = self.out or Path("runs") / name
        _claim(out, {"seed": self.seed, **asdict(size)})
        return Loop(out, size, self.seed)

    def _size(self) -> Size:
        from hyperface_jax.cli.closed_loop.sizes import DEFAULT, FULL, QUICK, Size

        if self.quick and self.full:
            raise InputError("--quick, --full: they exclude each other; give one")
        given = {field.name: getattr(self, field.name, None) for field in fields(Size)}
        for name, value in given.items():
            least = {"alpha": 0, "neighbors": 1}.get(name, 2)
            if value is not None and not least <= value < 2**31:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be {least} or more")
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(QUICK if self.quick else FULL if self.full else DEFAULT, **changes)


def _announce(loop: Loop) -> None:
    """Say how long it takes, and what its size cannot show."""
    from hyperface_jax.cli.closed_loop.estimate import MEASURED, estimate, in_words

    print(
        f"hyperface demo: about {in_words(estimate(loop.size))} on two idle cores, less what is done "
        f"already (estimated from runs on {MEASURED.machine}); Ctrl-C stops it, the same command resumes"
    )
    if loop.size.is_small:
        print("This size shows the stages at work; it is too small to tell the ways apart.")


def _claim(folder: Path, settings: dict[str, object]) -> None:
    path = folder / _SETTINGS
    if path.exists():
        found = read_json(path)
        differing = [name for name, value in settings.items() if found.get(name) != value]
        if differing:
            raise InputError(
                f"--out {one_line(folder)}: holds a demo with other settings ({', '.join(differing)}); "
                "choose another folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"--out {one_line(folder)}: is not empty and holds no demo; choose another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, settings)

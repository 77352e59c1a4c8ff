"""Random faces for a gallery, drawn by an unconditional diffusion model or a function."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.claims import claim, refuse_strangers
from hyperface_jax.io.files import (
    atomic_write_bytes,
    one_line,
    os_input_error,
    read_json,
    writing,
)
from hyperface_jax.io.image_folders import RECORD
from hyperface_jax.io.images import encode, is_flat

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath
    from hyperface_jax.typing import Update

    Draw = Callable[[np.ndarray], Any]

_KIND = "set of faces"
_INDEX = "model_index.json"
_ARGUMENTS = {"batch_size", "generator", "output_type", "return_dict"}
_ENOUGH = 32
"""Number of images after which a call stops if all of them have a single color."""
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"


def random_faces(
    source: StrPath, num: int, *, seed: int = 0, batch_size: int = 16
) -> Iterator[np.ndarray]:
    """Draw random faces of nobody in particular.

    Apart from rounding in the network, face i depends only on the source, the seed and i, not on ``num``
    or ``batch_size``.

    Args:
        source: a folder with a diffusers pipeline that needs no prompt, such as
            ``CompVis/ldm-celebahq-256``; or ``module:function``, a function that takes the seed and
            int64 indices ``[b]`` and returns uint8 RGB ``[b, h, w, 3]``. The code of that module is run.
        num: number of faces.
        seed: seed of the faces, 0 or more.
        batch_size: number of faces per step.

    Returns:
        An iterator over batches of faces, uint8 RGB ``[b, h, w, 3]``, in the order of i. The source is
        opened before this function returns.

    Raises:
        InputError: the source cannot be used, or a number is out of range; during iteration, if the
            source returns an array of the wrong type or shape.
    """
    _check_numbers(num, seed, batch_size)
    return _batches(_open(source, seed), np.arange(num), batch_size, one_line(source))


def write_faces(
    source: StrPath,
    path: StrPath,
    num: int,
    *,
    seed: int = 0,
    batch_size: int = 16,
    progress: Update | None = None,
) -> list[str]:
    """Write random faces as PNG files ``000000.png``, ``000001.png``, ...

    A folder is filled file by file, and complete files in it are kept, so an interrupted call can be
    repeated and a finished one extended. A .tar file appears only when it is complete, and replaces an
    older one.

    Args:
        source: source of the faces, as for :func:`random_faces`.
        path: a folder, which is created if missing, or a file with the suffix ``.tar``.
        num: number of faces; a folder that has more of them keeps the others.
        seed: seed of the faces, 0 or more.
        batch_size: number of faces per step.
        progress: called with the number of faces that exist, including kept ones.

    Returns:
        The names of files that were left out because the image had a single color.

    Raises:
        InputError: as for :func:`random_faces`; or all images have a single color, the path cannot be
            written, or the folder holds anything but faces from the same source and seed.
    """
    _check_numbers(num, seed, batch_size)
    path = Path(path)
    flat: list[str] = []
    if path.suffix.lower() == ".tar":
        _check_file(path)
        faces = random_faces(source, num, seed=seed, batch_size=batch_size)
        named = _named(faces, np.arange(num), 0, progress)
        _write_tar(path, _files(named, flat, one_line(source)))
        return flat
    record = {"source": _label(source), "seed": seed}
    _check_folder(path, record)
    missing = np.array([i for i in range(num) if not _is_whole(path / _name(i))], dtype=np.int64)
    if progress is not None:
        progress(num - missing.size)
    if missing.size:
        faces = _batches(_open(source, seed), missing, batch_size, one_line(source))
        _make_folder(path, record)
        named = _named(faces, missing, num - missing.size, progress)
        for name, data in _files(named, flat, one_line(source)):
            atomic_write_bytes(path / name, data)
    return flat


def _check_numbers(num: int, seed: int, batch_size: int) -> None:
    if num < 1:
        raise InputError(f"`num={num}`: must be 1 or more")
    if seed < 0:
        raise InputError(f"`seed={seed}`: must be 0 or more")
    if batch_size < 1:
        raise InputError(f"`batch_size={batch_size}`: must be 1 or more")


def _batches(draw: Draw, indices: np.ndarray, size: int, name: str) -> Iterator[np.ndarray]:
    for start in range(0, len(indices), size):
        part = indices[start : start + size]
        try:
            images = draw(part)
        except OSError as error:
            raise os_input_error(name, "cannot draw faces", error) from error
        yield _checked(images, len(part), name)


def _checked(images: Any, num: int, name: str) -> np.ndarray:
    images = np.asarray(images)
    is_rgb = images.ndim == 4 and images.shape[3] == 3 and images.size > 0
    if images.dtype != np.uint8 or not is_rgb or len(images) != num:
        raise InputError(
            f"{name}: returns {images.dtype} of shape {images.shape} for {num} faces; uint8 RGB of "
            f"shape [{num}, h, w, 3] is needed"
        )
    return images


def _open(source: StrPath, seed: int) -> Draw:
    if Path(source).is_dir():
        return _pipeline_draw(Path(source), seed)
    function = _import(str(source))
    return lambda indices: function(seed, indices)


def _import(spec: str) -> Callable[[int, np.ndarray], Any]:
    module, _, attribute = spec.partition(":")
    name = one_line(spec)
    try:
        function: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"{name}: no folder, and cannot be imported ({one_line(error)}); give a folder with "
            f"{_INDEX}, or module:function with the module on PYTHONPATH"
        ) from error
    if not callable(function):
        raise InputError(f"{name}: no function; give one that takes the seed and the indices")
    return function


def _pipeline_draw(folder: Path, seed: int) -> Draw:
    """Return a function that draws the faces of given indices with the pipeline in a folder."""
    pipeline = _load_pipeline(folder)
    name = one_line(folder)
    import torch

    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    def draw(indices: np.ndarray) -> np.ndarray:
        # Noise that is drawn on the CPU is the same for all devices.
        generators = [torch.Generator().manual_seed(s) for s in generator_seeds(seed, indices)]
        before = _rng_states(pipeline.device)
        images = _call(pipeline, generators, name)
        if not all(map(torch.equal, before, _rng_states(pipeline.device))):
            raise InputError(
                f"{name}: draws noise that depends on the batch; give it another scheduler, such as "
                "DDIMScheduler"
            )
        return images

    return draw


def _call(pipeline: Any, generators: list[Any], name: str) -> np.ndarray:
    num = len(generators)
    try:
        images, *_ = pipeline(
            batch_size=num, generator=generators, output_type="np", return_dict=False
        )
    except Exception as error:  # settings that do not fit together make it raise nearly anything
        raise InputError(
            f"{name}: fails to draw {num} faces at a time ({one_line(error)}); lower the batch size, or "
            "download it again"
        ) from error
    if not np.isfinite(images).all():
        raise InputError(f"{name}: draws images that are not finite; download it again")
    return np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _rng_states(device: Any) -> list[Any]:
    """Return the states of PyTorch's default random generators."""
    import torch

    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def generator_seeds(seed: int, indices: np.ndarray) -> list[int]:
    """Return a seed for PyTorch's generator for each index, all different for indices below 2**32.

    PyTorch's CPU generator uses only the lower 32 bits of its seed. Of 100,000 hashed seeds, two would
    more likely than not be equal and give the same face. These seeds are a permutation of the indices
    instead.

    Args:
        seed: chooses the permutation.
        indices: indices of the images, counted from 0.

    Returns:
        Numbers below 2**32.
    """
    factor, shift = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    return [((factor | 1) * int(index) + shift) % 2**32 for index in indices]


def _load_pipeline(folder: Path) -> Any:
    """Build the pipeline in a folder from its parts.

    ``DiffusionPipeline.from_pretrained`` is not used, because it runs Python files in the folder.
    """
    name = one_line(folder / _INDEX)
    diffusers = _import_diffusers(one_line(folder))
    settings = read_json(folder / _INDEX)
    kind = _pipeline_class(diffusers, settings, name)
    classes = _part_classes(diffusers, settings, kind, name)
    try:
        parts = {key: _load_part(diffusers, part, folder, key) for key, part in classes.items()}
        pipeline = kind(**parts)
    except InputError:
        raise
    except Exception as error:  # damage makes the parsers raise nearly anything
        raise InputError(
            f"{one_line(folder)}: incomplete or damaged ({one_line(error)}); download it again"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _import_diffusers(name: str) -> Any:
    try:
        importlib.import_module("torch")
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise InputError(
            f"{name}: needs {error.name}; pip install '.[synthesis]' in a checkout"
        ) from error


def _pipeline_class(diffusers: Any, settings: Mapping[str, Any], name: str) -> Any:
    """Return the pipeline class that the index names, if it draws images without a condition."""
    label = settings.get("_class_name")
    kind = getattr(diffusers, label, None) if isinstance(label, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise InputError(
            f"{name}: {one_line(label)} is not a pipeline of diffusers, and code from elsewhere is not "
            "run; give one from diffusers, such as LDMPipeline"
        )
    _, *parameters = inspect.signature(kind.__call__).parameters.values()
    is_complete = all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)
    if not is_complete or _ARGUMENTS - {p.name for p in parameters}:
        raise InputError(
            f"{name}: {label} does not draw images without a condition; give one that does, such as "
            "LDMPipeline"
        )
    return kind


def _part_classes(
    diffusers: Any, settings: Mapping[str, Any], kind: Any, name: str
) -> dict[str, Any]:
    """Return the classes of the parts, which must be networks or schedulers of diffusers."""
    expected = inspect.signature(kind.__init__).parameters
    classes = {}
    for key, value in settings.items():
        if key.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        is_known = key in expected and len(value) == 2 and value[0] == "diffusers"
        found = getattr(diffusers, str(value[1]), None) if is_known else None
        bases = diffusers.ModelMixin, diffusers.SchedulerMixin
        if not (isinstance(found, type) and issubclass(found, bases)):
            raise InputError(
                f"{name}: part {one_line(key)} is {one_line(value)}, not a network or scheduler of "
                "diffusers, and code from elsewhere is not run; give a pipeline without it"
            )
        classes[key] = found
    return classes


def _load_part(diffusers: Any, part: Any, folder: Path, key: str) -> Any:
    """Load a part, and check that its file has all tensors, for which diffusers only warns."""
    options = {"subfolder": key, "local_files_only": True}
    if not issubclass(part, diffusers.ModelMixin):
        return part.from_pretrained(str(folder), **options)
    network, found = part.from_pretrained(str(folder), output_loading_info=True, **options)
    if missing := [*found["missing_keys"], *found["mismatched_keys"]]:
        raise InputError(
            f"{one_line(folder / key)}: lacks {len(missing)} tensors, such as {one_line(missing[0])}; "
            "download it again"
        )
    return network.float()


def _name(index: int) -> str:
    return f"{index:06d}.png"


def _label(source: StrPath) -> str:
    """Return a name for a source that does not depend on the location of its folder."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else str(source)


def _check_folder(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a folder of anything else, since its images would be taken for faces of this source."""
    if (path / RECORD).exists():
        claim(path, RECORD, record, kind=_KIND)
        return
    try:
        refuse_strangers(path, own=_hidden(path), lacks=RECORD)
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error


def _hidden(path: Path) -> list[str]:
    return [entry.name for entry in path.glob(".*")]


def _make_folder(path: Path, record: Mapping[str, Any]) -> None:
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    claim(path, RECORD, record, own=_hidden(path), kind=_KIND)


def _is_whole(path: Path) -> bool:
    """Tell whether a PNG file is complete, by its first and last bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_PNG_START))
            file.seek(-len(_PNG_END), os.SEEK_END)
            return start == _PNG_START and file.read() == _PNG_END
    except OSError:
        return False


def _named(
    batches: Iterator[np.ndarray], indices: np.ndarray, num_kept: int, progress: Update | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the image of each face, and report progress after each batch."""
    num_drawn = 0
    for batch in batches:
        for image in batch:
            yield _name(indices[num_drawn]), image
            num_drawn += 1
        if progress is not None:
            progress(num_kept + num_drawn)


def _files(
    named: Iterator[tuple[str, np.ndarray]], flat: list[str], source: str
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file, and add the names of those left out to ``flat``."""
    num_good = 0
    for name, image in named:
        if not is_flat(image):
            num_good += 1
            yield name, encode(image)
            continue
        flat.append(name)
        if not num_good and len(flat) >= _ENOUGH:
            break
    if flat and not num_good:
        raise InputError(
            f"{source}: all of the first {len(flat)} faces came out of one color; fix the generator"
        )


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{one_line(path)}: is a folder; choose another name for the .tar file")
    if not path.parent.is_dir():
        raise InputError(f"{one_line(path)}: cannot write: no such folder; create its folder first")


def _write_tar(path: Path, files: Iterator[tuple[str, bytes]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for name, data in files:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise os_input_error(path, "cannot write", error) from error
    finally:
        partial.unlink(missing_ok=True)

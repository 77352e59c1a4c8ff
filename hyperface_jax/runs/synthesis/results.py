"""The files of a complete data set besides its images: manifest, summary, contact sheet, pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_bytes, atomic_write_json, one_line
from hyperface_jax.io.images import encode
from hyperface_jax.io.run_directory import REPORT, SUMMARY
from hyperface_jax.runs.support.result import Result
from hyperface_jax.runs.support.settings import command
from hyperface_jax.runs.support.versions import versions
from hyperface_jax.runs.synthesis import pictures
from hyperface_jax.synthesis.card import ARC2FACE_LICENSES, CardFacts, write_card
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS, fidelity, read_face_embeddings
from hyperface_jax.synthesis.manifest import merge_manifests, summarize
from hyperface_jax.synthesis.shards import shard_name

if TYPE_CHECKING:
    from hyperface_jax.runs.support.watch import Watch
    from hyperface_jax.runs.synthesis.parts import Parts
    from hyperface_jax.runs.synthesis.settings import Synthesize
    from hyperface_jax.synthesis.shards import DataSet

SHEET = "contact_sheet.png"
_MOST_REPEATED = 0.01
"""Share of images that may resemble another one by chance."""
_PACKAGES = ("hyperface_jax", "jax", "numpy", "torch", "diffusers", "transformers", "onnxruntime")


def write_results(
    config: Synthesize, parts: Parts, data_set: DataSet, watch: Watch
) -> Result | None:
    """Complete the data set if every shard is present.

    Args:
        config: the settings.
        parts: the parts that the images were drawn with.
        data_set: the data set.
        watch: receives warnings about signs that the generator sometimes fails.

    Returns:
        The figures; None if a shard is missing.

    Raises:
        InputError: no image was kept, or the images of every identity are all alike.
    """
    from hyperface_jax.reports.synthesis import write_synthesis_report

    manifest = merge_manifests(data_set)
    if manifest is None:
        return None
    summary = summarize(manifest)
    summary["fidelity"] = _fidelity(parts, data_set)
    summary["versions"] = versions(*_PACKAGES)
    sheet = encode(pictures.sheet(data_set))
    atomic_write_bytes(config.out / SHEET, sheet)
    _check(config, parts, summary)
    _write_card(config, data_set, summary)
    write_synthesis_report(
        config.out,
        summary,
        settings=data_set.record(),
        command=command(config),
        sheet=sheet,
        farthest=pictures.farthest_faces(data_set),
        closest=pictures.closest_identities(data_set) if summary["fidelity"] else [],
    )
    atomic_write_json(config.out / SUMMARY, summary)
    _warn(summary, watch)
    return Result(config.out, {"is_complete": True, **summary}, _in_words(config, summary))


def all_flat(generator: str, num_images: int) -> str:
    """Return the error message for a generator that draws only images of a single color."""
    return (
        f"generator {one_line(generator)}: all of the first {num_images} images came out of one "
        "color, as happens when numbers overflow in half precision; try `dtype=float32` with "
        "Arc2Face, or fix the generator"
    )


def _check(config: Synthesize, parts: Parts, summary: dict[str, Any]) -> None:
    """Refuse a data set that nothing can be learned from."""
    name, out = one_line(parts.generator.name), one_line(config.out)
    num_dropped = summary["num_rejected"]
    if num_dropped and summary["num_flat"] == num_dropped + summary["num_images"]:
        raise InputError(f"{all_flat(name, num_dropped)}, and choose a folder other than {out}")
    if not summary["num_images"]:
        raise InputError(
            f"{out}: all {num_dropped} images were dropped, {summary['num_flat']} of one color and "
            "the others without a face or too far from their target; look at `crop` and "
            "`min_target_cosine`, and choose another folder"
        )
    if 0 < summary["num_comparable"] == summary["num_alike_identities"]:
        raise InputError(
            f"generator {name}: the images of every identity are all alike, see "
            f"{one_line(config.out / SHEET)}; make it use its noise, or raise `beta`, and choose "
            "another folder"
        )


def _fidelity(parts: Parts, data_set: DataSet) -> dict[str, Any] | None:
    if parts.recognizer is None:
        return None
    folder = data_set.path / FACE_EMBEDDINGS
    paths = (folder / f"{shard_name(shard)}.npz" for shard in range(data_set.plan.num_shards))
    targets = parts.embeddings.points[: data_set.plan.num_ids]
    found = fidelity(targets, read_face_embeddings(paths))
    return None if found is None else found.summary()


def _write_card(config: Synthesize, data_set: DataSet, summary: dict[str, Any]) -> None:
    is_arc2face = Path(config.generator).is_dir()
    own = {"Generator": "fill in that of its weights", "Recognizer": "fill in that of its weights"}
    facts = CardFacts(
        title=config.out.resolve().name,
        license=config.license,
        format=config.format,
        num_shards=data_set.plan.num_shards,
        command=command(config),
        settings=data_set.record(),
        versions=summary["versions"],
        licenses={**ARC2FACE_LICENSES, "Recognizer": own["Recognizer"]} if is_arc2face else own,
        summary=summary,
        has_embeddings=config.recognizer is not None,
    )
    write_card(config.out, facts)


def _warn(summary: dict[str, Any], watch: Watch) -> None:
    """Warn about signs that the generator sometimes fails."""
    num_images, num_flat = summary["num_images"], summary["num_flat"]
    if num_flat:
        watch.warn(
            f"{num_flat} of {num_images + summary['num_rejected']} images came out of one color and "
            "were dropped: the generator sometimes fails"
        )
    if summary["num_alike_identities"]:
        watch.warn(
            f"{summary['num_alike_identities']} of {summary['num_comparable']} identities have images "
            "that are all alike: the generator hardly uses its noise"
        )
    if summary["num_repeated_images"] > _MOST_REPEATED * num_images:
        watch.warn(
            f"{summary['num_repeated_images']} of {num_images} images resemble an earlier image: the "
            "generator hardly uses its noise or its condition"
        )


def _in_words(config: Synthesize, summary: dict[str, Any]) -> str:
    dropped = f", {summary['num_rejected']} dropped" if summary["num_rejected"] else ""
    lines = [f"{summary['num_images']} images of {summary['num_identities']} identities{dropped}"]
    if found := summary["fidelity"]:
        lines.append(
            f"nearest other identity, mean cosine: {found['nearest_before_mean']:.3f} in the packing, "
            f"{found['nearest_after_mean']:.3f} in the faces; face to its target "
            f"{found['target_cosine']:.3f}"
        )
    page = one_line(config.out / REPORT)
    return "\n".join([*lines, f"see {one_line(config.out / SHEET)}", f"report: {page}"])

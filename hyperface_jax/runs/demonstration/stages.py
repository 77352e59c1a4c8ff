"""The stages of a closed loop. Each writes to its own folder and does not repeat finished work.

These stages call other stages of :mod:`hyperface_jax.runs`, which resume by themselves. Results that
already exist are not made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from hyperface_jax import evaluation, sphere
from hyperface_jax.faces.flax_recognizer import load_recognizer
from hyperface_jax.io.embeddings import read_embeddings
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json
from hyperface_jax.runs.demonstration.arms import (
    DRAWN,
    OF_PERSONS,
    SYNTHETIC,
    TRAINED,
    Arm,
    arms_of,
)
from hyperface_jax.runs.demonstration.closed_loop import (
    EVALUATION,
    GALLERY,
    LEAKAGE,
    PACKING,
    RECOGNITION,
    SYNTHESIS,
    THRESHOLD,
    ClosedLoop,
)
from hyperface_jax.runs.demonstration.real_persons import persons, real_images
from hyperface_jax.runs.drawing import Faces, faces
from hyperface_jax.runs.embedding import Embed, embed
from hyperface_jax.runs.evaluation import Evaluate, evaluate
from hyperface_jax.runs.packing.settings import Pack
from hyperface_jax.runs.packing.stage import pack
from hyperface_jax.runs.support.settings import command
from hyperface_jax.runs.synthesis.settings import Synthesize
from hyperface_jax.runs.synthesis.stage import synthesize
from hyperface_jax.runs.training.settings import Train
from hyperface_jax.runs.training.stage import train
from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS, face_sums, read_face_embeddings
from hyperface_jax.toyfaces.faces import SOURCE, draw_persons, embed_persons
from hyperface_jax.toyfaces.population import benchmark_lists, write_benchmarks
from hyperface_jax.toyfaces.pretrained import RECOGNIZER

if TYPE_CHECKING:
    from hyperface_jax.runs.support.result import Result
    from hyperface_jax.runs.support.watch import Watch

FAR = 1e-4
"""Share of pairs of two real persons whose cosine exceeds the leakage threshold."""
_IMAGES_PER_PERSON = 4
_FEWEST_PERSONS = 200
"""Number of persons that gives enough pairs to find the threshold at ``FAR``."""


def _run(stage: Callable[..., Result], settings: Any, watch: Watch) -> None:
    """Run a stage; show its command line before its messages, and its result after them."""
    watch.say(f"$ {command(settings)}")
    watch.say(stage(settings, watch=watch).text)


def make_gallery(loop: ClosedLoop, watch: Watch) -> None:
    """Draw random faces and embed them; also embed the real persons that leakage is measured for."""
    folder = loop.folder(GALLERY)
    if not loop.gallery.exists():
        images, num = folder / "faces", loop.size.gallery
        batch = min(256, num)
        drawn = Faces(source=SOURCE, out=images, num=num, seed=loop.seed, batch_size=batch)
        _run(faces, drawn, watch)
        embedded = Embed(images=images, recognizer=RECOGNIZER, out=loop.gallery, devices=1)
        _run(embed, embedded, watch)
    if not (folder / THRESHOLD).exists():
        _embed_real_persons(loop, folder)


def _embed_real_persons(loop: ClosedLoop, folder: Path) -> None:
    # With the seed of the shipped models, these persons are in the generator's training set.
    real = persons(0, "generation", loop.size.reference_ids, 2).directions()
    atomic_save_npz(loop.reference, embeddings=real)
    num = max(loop.size.test_ids, _FEWEST_PERSONS)
    others = persons(loop.seed, "reference", num, 2).directions()
    found = {
        "threshold": evaluation.impostor_threshold(others, far=FAR),
        "far": FAR,
        "num_persons": len(others),
    }
    atomic_write_json(folder / THRESHOLD, found)


def pack_arms(loop: ClosedLoop, watch: Watch) -> None:
    """Choose the identities of each arm."""
    for arm in arms_of(loop):
        pack_arm(loop, arm, watch)


def pack_arm(loop: ClosedLoop, arm: Arm, watch: Watch) -> None:
    """Choose the identities of one arm."""
    size = loop.size
    settings = Pack(
        num_ids=_given(arm.num_ids, size.num_ids),
        gallery=loop.gallery,
        alpha=_given(arm.alpha, size.alpha),
        neighbors=_given(arm.neighbors, size.neighbors),
        seed=loop.seed,
        devices=1,
        out=loop.folder(PACKING) / arm.name,
    )
    _run(pack, replace(settings, **arm.packing), watch)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def draw_arms(loop: ClosedLoop, watch: Watch) -> None:
    """Draw the images of each arm."""
    for arm in arms_of(loop):
        draw_arm(loop, arm, watch)


def draw_arm(loop: ClosedLoop, arm: Arm, watch: Watch) -> None:
    """Draw the images of one arm."""
    num_ids = _given(arm.num_ids, loop.size.num_ids)
    images_per_id = _given(arm.images_per_id, loop.size.images_per_id)
    settings = Synthesize(
        embeddings=loop.path / PACKING / arm.name,
        generator=arm.generator,
        images_per_id=images_per_id,
        crop="none",
        recognizer=RECOGNIZER,
        batch_size=min(100, num_ids * images_per_id),
        seed=loop.seed,
        out=loop.folder(SYNTHESIS) / arm.name,
    )
    _run(synthesize, replace(settings, **arm.synthesis), watch)


def train_arms(loop: ClosedLoop, watch: Watch) -> None:
    """Train a recognizer from scratch on the images of each arm, and on as many of real persons."""
    for way in SYNTHETIC:
        train_arm(loop, way, drawn_images(loop, way), watch)
    for way in OF_PERSONS:
        train_arm(loop, way, real_images(loop, way), watch)


def drawn_images(loop: ClosedLoop, way: str) -> Path:
    """Return the folder of the images that were drawn for an arm."""
    return loop.path / SYNTHESIS / way / "shards"


def train_arm(loop: ClosedLoop, way: str, data: Path, watch: Watch, **changes: Any) -> None:
    """Train the recognizer of one arm, on its images only; ``changes`` are settings of ``train``."""
    size = loop.size
    settings = Train(
        data=data,
        backbone="iresnet_nano",
        embedding_dim=128,
        head="adaface",
        learning_rate=0.05,
        warmup_epochs=1.0,
        epochs=size.epochs,
        batch_size=max(2, min(size.batch_size, size.num_ids * size.images_per_id // 4)),
        seed=loop.seed,
        devices=1,
        out=loop.folder(RECOGNITION) / way,
    )
    _run(train, replace(settings, **changes), watch)


def evaluate_arms(loop: ClosedLoop, watch: Watch) -> None:
    """Verify pairs of held-out real persons with each recognizer, and compare all against all."""
    make_sets(loop)
    for way in TRAINED:
        evaluate_arm(loop, way, watch)


def make_sets(loop: ClosedLoop) -> None:
    """Draw the verification sets that do not exist yet."""
    loop.sets.mkdir(exist_ok=True)
    write_benchmarks(loop.sets, loop.seed + 1, loop.size.pairs)


def evaluate_arm(loop: ClosedLoop, way: str, watch: Watch) -> None:
    """Measure the recognizer of one arm."""
    out = loop.folder(EVALUATION) / way
    model = loop.path / RECOGNITION / way
    if not (out / "evaluation.json").exists():
        sets = tuple(benchmark_lists(loop.sets).values())
        _run(evaluate, Evaluate(model=model, benchmark=sets, devices=1, out=out), watch)
    if not (out / "all_pairs.json").exists():
        atomic_write_json(out / "all_pairs.json", _told_apart(loop, model))


def _told_apart(loop: ClosedLoop, model: Path) -> dict[str, Any]:
    num = loop.size.test_ids
    images = draw_persons(loop.seed + 1, "test", num, _IMAGES_PER_PERSON, preset="mixed")
    embedded = embed_persons(load_recognizer(model), images).embeddings
    labels = np.repeat(np.arange(num), _IMAGES_PER_PERSON)
    return evaluation.all_pairs(embedded.reshape(len(labels), -1), labels).summary()


def measure_leakage(loop: ClosedLoop, watch: Watch) -> None:
    """Find the real training person nearest to each identity, before and after drawing."""
    del watch
    out = loop.folder(LEAKAGE) / "leakage.json"
    if out.exists():
        return
    real = read_embeddings(loop.reference).points
    figures: dict[str, Any] = {}
    cosines: dict[str, np.ndarray] = {}
    for way in DRAWN:
        packed = read_embeddings(loop.path / PACKING / way / "embeddings.npy").points
        parts = sorted((loop.path / SYNTHESIS / way / FACE_EMBEDDINGS).iterdir())
        drawn, _ = face_sums(packed.shape, read_face_embeddings(parts))
        for kind, rows in (("before", packed), ("after", drawn)):
            unit = np.asarray(sphere.normalize(jnp.asarray(rows)))
            cosine = evaluation.nearest_pairs(unit, real, num_pairs=1).cosine
            figures.setdefault(way, {})[kind] = _leakage_figures(cosine, loop.threshold)
            cosines[f"{way}_{kind}"] = cosine
    atomic_save_npz(out.with_suffix(".npz"), **cosines)
    atomic_write_json(out, figures)


def _leakage_figures(cosine: np.ndarray, threshold: float) -> dict[str, Any]:
    """Summarize the cosines ``[n]`` of identities to their nearest real persons."""
    is_near = cosine > threshold
    return {
        "num_identities": len(cosine),
        "mean_cosine": float(cosine.mean()),
        "max_cosine": float(cosine.max()),
        "threshold": threshold,
        "num_above": int(is_near.sum()),
        "share_above": float(is_near.mean()),
    }


STAGES: dict[str, Callable[[ClosedLoop, Watch], None]] = {
    "make gallery": make_gallery,
    "pack": pack_arms,
    "synthesize": draw_arms,
    "train": train_arms,
    "evaluate": evaluate_arms,
    "measure leakage": measure_leakage,
}
"""The stages by name, in order; the report comes after them as the seventh."""

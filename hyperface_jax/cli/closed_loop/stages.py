"""The stages of a closed loop. Each leaves files in a folder of its own and does nothing twice.

A stage is made of ``hyperface`` commands, which resume by themselves; what is there is not made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.cli.closed_loop import commands
from hyperface_jax.cli.closed_loop.sizes import Size
from hyperface_jax.io.files import atomic_save_npz, atomic_write_json, read_json
from hyperface_jax.toyfaces.pretrained import GENERATOR_NAME, RECOGNIZER

if TYPE_CHECKING:
    from hyperface_jax.toyfaces.faces import Faces

GALLERY, PACKING, SYNTHESIS = "1-gallery", "2-packing", "3-synthesis"
RECOGNITION, EVALUATION, LEAKAGE = "4-recognition", "5-evaluation", "6-leakage"
PACKED, PAPER, UNPACKED, REAL, KEEP_OUT = "packed", "paper", "unpacked", "real", "keep-out"
SYNTHETIC = (PACKED, PAPER, UNPACKED)
"""Ways to choose identities whose images a recognizer is trained on."""
TRAINED = (*SYNTHETIC, REAL)
DRAWN = (*SYNTHETIC, KEEP_OUT)
FAR = 1e-4
"""Two real persons come nearer than the leakage threshold at this rate."""
_IMAGES_PER_PERSON = 4


@dataclass(frozen=True)
class Loop:
    """A closed loop on disk.

    Attributes:
        path: its folder.
        size: of everything.
        seed: of everything random.
    """

    path: Path
    size: Size
    seed: int

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, made if missing."""
        folder = self.path / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def gallery(self) -> Path:
        """Embeddings of random faces."""
        return self.path / GALLERY / "gallery.npz"

    @property
    def reference(self) -> Path:
        """Directions of the real persons that the generator was trained on."""
        return self.path / GALLERY / "reference.npz"

    @property
    def threshold(self) -> float:
        """Cosine from which two directions count as one person."""
        return read_json(self.path / GALLERY / "threshold.json")["threshold"]

    @property
    def sets(self) -> Path:
        """Folder of the verification sets."""
        return self.folder(EVALUATION) / "sets"


def make_gallery(loop: Loop) -> None:
    """Draw random faces and embed them; embed the real persons of the leakage question."""
    from hyperface_jax.toyfaces.faces import SOURCE

    folder = loop.folder(GALLERY)
    if not loop.gallery.exists():
        faces = folder / "faces"
        num = loop.size.gallery
        batch = ["--batch-size", min(256, num)]
        commands.run(
            "faces", "--source", SOURCE, "--num", num, "--seed", loop.seed, *batch, "--out", faces
        )
        words = ["--recognizer", RECOGNIZER, "--devices", 1, "--out", loop.gallery]
        commands.run("embed", faces, *words)
    if not (folder / "threshold.json").exists():
        _embed_real_persons(loop, folder)


def _embed_real_persons(loop: Loop, folder: Path) -> None:
    from hyperface_jax.evaluation import impostor_threshold

    # The world's seed is that of the shipped models: these persons are in the generator's training set.
    real = persons(0, "generation", loop.size.reference_ids, 2).directions()
    atomic_save_npz(loop.reference, embeddings=real)
    others = persons(loop.seed, "reference", max(loop.size.test_ids, 200), 2).directions()
    found = {
        "threshold": impostor_threshold(others, far=FAR),
        "far": FAR,
        "num_persons": len(others),
    }
    atomic_write_json(folder / "threshold.json", found)


def persons(seed: int, role: str, num: int, images_per_id: int, preset: str = "easy") -> Faces:
    """Draw real persons of a role and embed their images with the shipped recognizer."""
    from hyperface_jax.faces.flax_recognizer import load_recognizer
    from hyperface_jax.toyfaces.faces import draw_persons, embed_persons

    images = draw_persons(seed, role, num, images_per_id, preset=preset)
    return embed_persons(load_recognizer(RECOGNIZER), images)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to choose identities and to draw them. None takes the loop's.

    Attributes:
        name: of its folders.
        num_ids: identities.
        images_per_id: images of each.
        alpha: weight of the gallery.
        neighbors: gallery rows whose span stands for the face manifold.
        packing: further words of ``hyperface pack``.
        synthesis: further words of ``hyperface synthesize``.
    """

    name: str
    num_ids: int | None = None
    images_per_id: int | None = None
    alpha: float | None = None
    neighbors: int | None = None
    packing: tuple[object, ...] = ()
    synthesis: tuple[object, ...] = ()


def arms(loop: Loop) -> list[Arm]:
    """Return the ways that are compared; that with keep-out is drawn for its leakage only."""
    few = min(2, loop.size.images_per_id)
    return [
        Arm(name=PACKED),
        paper_arm(loop.size),
        Arm(name=UNPACKED, packing=("--steps", 0)),
        Arm(name=KEEP_OUT, packing=keep_out_words(loop), images_per_id=few),
    ]


def keep_out_words(loop: Loop) -> tuple[object, ...]:
    """Return the words that keep a packing clear of the real persons."""
    return ("--keep-out", loop.reference, "--keep-out-cosine", f"{loop.threshold:.6f}")


def paper_arm(size: Size) -> Arm:
    """Return the paper's algorithm: the nearest row, one pair a step, a hundred steps an identity."""
    words = ("--method", "paper", "--steps", 100 * size.num_ids)
    return Arm(name=PAPER, alpha=2.0, neighbors=1, packing=words)


def pack(loop: Loop) -> None:
    """Choose the identities in each of the ways."""
    for arm in arms(loop):
        pack_one(loop, arm)


def pack_one(loop: Loop, arm: Arm) -> None:
    """Choose the identities of one arm with ``hyperface pack``."""
    size = loop.size
    words = ["--num-ids", size.num_ids if arm.num_ids is None else arm.num_ids]
    words += ["--gallery", loop.gallery, "--alpha", size.alpha if arm.alpha is None else arm.alpha]
    words += ["--neighbors", arm.neighbors or size.neighbors]
    out = loop.folder(PACKING) / arm.name
    commands.run("pack", *words, *arm.packing, "--seed", loop.seed, "--devices", 1, "--out", out)


def synthesize(loop: Loop) -> None:
    """Draw the images of the identities."""
    for arm in arms(loop):
        synthesize_one(loop, arm)


def synthesize_one(loop: Loop, arm: Arm) -> None:
    """Draw the images of one arm with ``hyperface synthesize``."""
    source = ["--embeddings", loop.path / PACKING / arm.name, "--generator", GENERATOR_NAME]
    look = ["--crop", "none", "--recognizer", RECOGNIZER, "--batch-size", 100]
    num = loop.size.images_per_id if arm.images_per_id is None else arm.images_per_id
    number = ["--images-per-id", num, "--seed", loop.seed]
    out = loop.folder(SYNTHESIS) / arm.name
    commands.run("synthesize", *source, *look, *number, *arm.synthesis, "--out", out)


def train(loop: Loop) -> None:
    """Train a recognizer from scratch on the images of each arm, and on as many real ones."""
    for way in SYNTHETIC:
        train_one(loop, way, loop.path / SYNTHESIS / way / "shards")
    train_one(loop, REAL, real_images(loop))


def real_images(loop: Loop) -> Path:
    """Return a folder of as many images of real persons."""
    from hyperface_jax.toyfaces.population import sample_identities, split_key, write_folder

    path = loop.folder(RECOGNITION) / "real-images"
    if not path.exists():
        key, num = split_key(loop.seed, "recognition"), loop.size.num_ids
        latents = sample_identities(key, num).latents
        counts = [loop.size.images_per_id] * num
        # The circumstances that the generator was trained on, so that the persons alone differ.
        write_folder(path, latents, counts, key=key, preset="portrait")
    return path


def train_one(loop: Loop, way: str, data: Path, epochs: int | None = None) -> None:
    """Train the recognizer of one arm with ``hyperface train``, on images alone."""
    size = loop.size
    batch = max(2, min(size.batch_size, size.num_ids * size.images_per_id // 4))
    network = ["--backbone", "iresnet_nano", "--embedding-dim", 128, "--head", "adaface"]
    rate = ["--learning-rate", 0.05, "--warmup-epochs", 1]
    words = ["--epochs", epochs or size.epochs, "--batch-size", batch, "--seed", loop.seed]
    out = loop.folder(RECOGNITION) / way
    commands.run("train", "--data", data, *network, *rate, *words, "--devices", 1, "--out", out)


def evaluate(loop: Loop) -> None:
    """Verify held-out real persons with each recognizer, and tell them apart all against all."""
    make_sets(loop)
    for way in TRAINED:
        evaluate_one(loop, way)


def make_sets(loop: Loop) -> None:
    """Draw the verification sets that are not there yet."""
    from hyperface_jax.toyfaces.population import write_benchmarks

    loop.sets.mkdir(exist_ok=True)
    write_benchmarks(loop.sets, loop.seed + 1, loop.size.pairs)


def evaluate_one(loop: Loop, way: str) -> None:
    """Measure the recognizer of one arm."""
    from hyperface_jax.toyfaces.population import benchmark_lists

    out = loop.folder(EVALUATION) / way
    model = loop.path / RECOGNITION / way
    if not (out / "evaluation.json").exists():
        words = ["--model", model, "--devices", 1, "--out", out]
        commands.run("evaluate", *words, "--benchmark", *benchmark_lists(loop.sets).values())
    if not (out / "all_pairs.json").exists():
        atomic_write_json(out / "all_pairs.json", _told_apart(loop, model))


def _told_apart(loop: Loop, model: Path) -> dict[str, Any]:
    from hyperface_jax.evaluation import all_pairs
    from hyperface_jax.faces.flax_recognizer import load_recognizer
    from hyperface_jax.toyfaces.faces import draw_persons, embed_persons

    num = loop.size.test_ids
    images = draw_persons(loop.seed + 1, "test", num, _IMAGES_PER_PERSON, preset="mixed")
    faces = embed_persons(load_recognizer(model), images)
    labels = np.repeat(np.arange(num), _IMAGES_PER_PERSON)
    return all_pairs(faces.embeddings.reshape(len(labels), -1), labels).summary()


def measure_leakage(loop: Loop) -> None:
    """Find the nearest real training person of each identity, before and after it was drawn."""
    out = loop.folder(LEAKAGE) / "leakage.json"
    if out.exists():
        return
    from hyperface_jax.evaluation import leakage
    from hyperface_jax.io.embeddings import read_embeddings
    from hyperface_jax.synthesis.fidelity import FACE_EMBEDDINGS, face_sums, read_face_embeddings

    real, limit = read_embeddings(loop.reference).points, loop.threshold
    figures: dict[str, Any] = {}
    cosines: dict[str, np.ndarray] = {}
    for way in DRAWN:
        packed = read_embeddings(loop.path / PACKING / way / "embeddings.npy").points
        faces = sorted((loop.path / SYNTHESIS / way / FACE_EMBEDDINGS).iterdir())
        drawn, _ = face_sums(packed.shape, read_face_embeddings(faces))
        for kind, rows in (("before", packed), ("after", drawn)):
            found = leakage(rows, real, threshold=limit)
            figures.setdefault(way, {})[kind] = found.summary()
            cosines[f"{way}_{kind}"] = found.cosine
    atomic_save_npz(out.with_suffix(".npz"), **cosines)
    atomic_write_json(out, figures)


STAGES = (make_gallery, pack, synthesize, train, evaluate, measure_leakage)
"""In order; the report is the seventh."""

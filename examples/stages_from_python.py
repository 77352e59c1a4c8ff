"""Run the stages of the method from Python, as in a notebook, and resume a training that was stopped.

Toy faces stand in for real ones, so nothing is downloaded. A stage takes settings and returns what it
made. The same call again resumes a run that was stopped, or reports one that is finished.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperface_jax import runs
from hyperface_jax.toyfaces.faces import SOURCE
from hyperface_jax.toyfaces.pretrained import GENERATOR_NAME, RECOGNIZER

folder = Path(tempfile.mkdtemp())
faces, gallery = folder / "faces", folder / "gallery.npz"

runs.faces(runs.Faces(source=SOURCE, num=48, batch_size=48, out=faces))
runs.embed(runs.Embed(images=faces, recognizer=RECOGNIZER, out=gallery, devices=1))
packed = runs.pack(
    runs.Pack(
        num_ids=12,
        gallery=gallery,
        alpha=2,
        steps=50,
        out=folder / "packing",
        devices=1,
    )
)
print(f"max cosine of 12 identities: {packed.summary['max_cosine']:.4f}")

drawn = runs.synthesize(
    runs.Synthesize(
        embeddings=folder / "packing",
        generator=GENERATOR_NAME,
        recognizer=RECOGNIZER,
        images_per_id=4,
        batch_size=48,
        crop="none",
        out=folder / "data",
    )
)
fidelity = drawn.summary["fidelity"]
print(f"{drawn.summary['num_images']} images, cosine to target {fidelity['target_cosine']:.3f}")


@contextmanager
def at_once() -> Iterator[Callable[[], bool]]:
    """Ask a stage to stop as soon as it can, as Ctrl-C would."""
    yield lambda: True


training = runs.Train(
    data=folder / "data" / "shards",
    backbone="iresnet_nano",
    embedding_dim=32,
    epochs=1,
    batch_size=16,
    out=folder / "recognizer",
    devices=1,
)
try:
    runs.train(training, watch=runs.Watch(stopping=at_once))
except runs.Stopped as stopped:
    print("stopped, and everything is saved:", stopped.path.name)
trained = runs.train(training, watch=runs.Watch(say=print))
print(f"loss after {trained.summary['steps']} steps: {trained.summary['loss']:.3f}")

found = runs.diversity(
    runs.Diversity(embeddings=folder / "data", out=folder / "diversity", devices=1)
)
print(f"cosine within an identity: {found.summary['diversity']['genuine_mean']:.3f}")

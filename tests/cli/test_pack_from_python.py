"""Every feature of ``hyperface pack`` is a line of Python, with the same points bit for bit."""

import jax
import numpy as np
import pytest

import hyperface_jax as hf
from hyperface_jax.cli.main import main

N, D, STEPS = 40, 8, 30
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number, (name, rows) in enumerate(
        [("faces", 90), ("people", 25), ("old", 12), ("start", N)]
    ):
        x = hf.sphere.sample_uniform(jax.random.key(number), rows, D)
        np.save(folder / f"{name}.npy", np.asarray(x))
    return folder


def _problem(**sets):
    return hf.PackingProblem(num_points=N, dim=D, **sets)


FEATURES = {
    "plain": ((), lambda f: hf.solve(_problem(), KEY, num_steps=STEPS)),
    "gallery": (
        ("--gallery", "faces.npy", "--alpha", 2),
        lambda f: hf.solve(_problem(gallery=f("faces"), alpha=2), KEY, num_steps=STEPS),
    ),
    "neighbors": (
        ("--gallery", "faces.npy", "--neighbors", 3),
        lambda f: hf.solve(
            _problem(gallery=f("faces"), manifold=hf.LocalSpan(3)), KEY, num_steps=STEPS
        ),
    ),
    "subspace": (
        ("--gallery", "faces.npy", "--init", "subspace", "--manifold", "subspace"),
        lambda f: hf.solve(
            _problem(gallery=f("faces"), manifold=hf.GallerySubspace.fit(f("faces"))),
            KEY,
            num_steps=STEPS,
            start="subspace",
        ),
    ),
    "farthest": (
        ("--gallery", "faces.npy", "--init", "farthest"),
        lambda f: hf.solve(_problem(gallery=f("faces")), KEY, num_steps=STEPS, start="farthest"),
    ),
    "file start": (
        ("--dim", D, "--init", "start.npy"),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, start=f("start")),
    ),
    "code": (
        ("--init", "code"),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, start=hf.codes.refinable(N, D)),
    ),
    "frozen": (
        ("--frozen", "old.npy"),
        lambda f: hf.solve(_problem(frozen=f("old")), KEY, num_steps=STEPS),
    ),
    "keep-out": (
        ("--keep-out", "people.npy", "--keep-out-cosine", 0.6),
        lambda f: hf.solve(
            _problem(keep_out=f("people"), keep_out_cosine=0.6), KEY, num_steps=STEPS
        ),
    ),
    "stochastic": (
        ("--method", "stochastic", "--batch-size", 20),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, method=hf.MiniBatch(batch_size=20)),
    ),
    "no relax": (
        ("--method", "stochastic", "--batch-size", 20, "--no-relax"),
        lambda f: hf.solve(
            _problem(), KEY, num_steps=STEPS, method=hf.MiniBatch(batch_size=20, relax=False)
        ),
    ),
    "paper": (
        ("--method", "paper", "--learning-rate", 0.1),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, method=hf.Paper(learning_rate=0.1)),
    ),
    "paper, best iterate": (
        ("--method", "paper", "--iterate", "best"),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, method=hf.Paper(track_best=True)),
    ),
    "coarse steps": (
        ("--coarse-steps", 10),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, method=hf.Annealed(coarse_steps=10)),
    ),
    "restarts": (
        ("--restarts", 3),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, num_restarts=3),
    ),
    "polish": (
        ("--polish",),
        lambda f: hf.solve(_problem(), KEY, num_steps=STEPS, polish=True),
    ),
}


@pytest.mark.parametrize("name", FEATURES)
def test_the_command_and_python_give_the_same_points(name, files, tmp_path, monkeypatch):
    words, solve = FEATURES[name]
    monkeypatch.chdir(files)
    dim = () if {"--gallery", "--keep-out", "--frozen", "--dim"} & set(words) else ("--dim", D)
    common = ("--num-ids", N, *dim, "--steps", STEPS, "--seed", 3, "--devices", 1)
    out = tmp_path / "run"
    assert main([str(word) for word in ("pack", *common, *words, "--out", out)]) == 0
    written = np.load(out / "embeddings.npy")[-N:]
    packing = solve(lambda name: np.load(files / f"{name}.npy"))
    assert packing.x.dtype == written.dtype
    np.testing.assert_array_equal(packing.x, written)

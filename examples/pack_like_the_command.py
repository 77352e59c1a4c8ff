"""Use every feature of ``hyperface pack`` from Python, in one line each, and get the same points."""

import tempfile
from pathlib import Path

import jax

import hyperface_jax as hf

key = jax.random.key(0)  # --seed 0
faces = hf.sphere.sample_uniform(jax.random.key(1), 300, 16)
people = hf.sphere.sample_uniform(jax.random.key(2), 40, 16)

plain = hf.PackingProblem(num_points=60, dim=16)
near = hf.PackingProblem(num_points=60, dim=16, gallery=faces, alpha=0.5)
safe = hf.PackingProblem(num_points=60, dim=16, keep_out=people, keep_out_cosine=0.6)

packings = {
    "--steps 100": hf.solve(plain, key, num_steps=100),
    "--gallery faces.npy": hf.solve(near, key, num_steps=100),
    "--init farthest": hf.solve(near, key, num_steps=100, start="farthest"),
    "--init code": hf.solve(plain, key, num_steps=100, start=hf.codes.refinable(60, 16)),
    "--method stochastic": hf.solve(plain, key, num_steps=100, method=hf.MiniBatch()),
    "--method paper": hf.solve(near, key, num_steps=100, method=hf.Paper()),
    "--keep-out people.npy": hf.solve(safe, key, num_steps=100),
    "--restarts 4": hf.solve(plain, key, num_steps=100, num_restarts=4),
    "--polish": hf.solve(plain, key, num_steps=100, polish=True),
}
for option, packing in packings.items():
    print(f"{option:22} {packing}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "packing.npz"
    packings["--polish"].save(path)
    again = hf.Packing.load(path)
    print(f"saved and read: max cosine {again.max_cosine:.6f}")

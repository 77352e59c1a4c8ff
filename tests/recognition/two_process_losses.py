"""One process of a job: the loss of a stored problem over all devices, written by the first."""

import sys
from functools import partial

import jax
import numpy as np

from hyperface_jax import meshes, processes
from hyperface_jax.recognition.losses import margin_loss
from hyperface_jax.recognition.margins import AdaFace


def main(problem, result):
    """Read ``problem`` (.npz) and write losses, states and gradients to ``result`` (.npz)."""
    processes.initialize()
    mesh, arrays, head = meshes.make_mesh(), np.load(problem), AdaFace()
    embeddings = meshes.shard_rows(arrays["embeddings"], mesh, len(arrays["embeddings"]))
    weights = arrays["class_weights"]
    weights = meshes.shard_rows(weights, mesh, -(-len(weights) // mesh.size) * mesh.size)

    @partial(jax.jit, static_argnums=2)
    def value_and_grad(embeddings, weights, sample_rate):
        def loss(embeddings, weights):
            draw = {"sample_rate": sample_rate, "key": jax.random.key(5)}
            state, labels = head.init_state(), arrays["labels"]
            return margin_loss(head, state, embeddings, labels, weights, mesh=mesh, **draw)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(embeddings, weights)

    leaves = {}
    for rate in (1.0, 0.1):
        found = jax.tree.leaves(value_and_grad(embeddings, weights, rate))
        leaves |= {f"{rate}-{i}": meshes.gathered(leaf) for i, leaf in enumerate(found)}
    if processes.is_first_process():
        np.savez(result, num_processes=jax.process_count(), num_devices=mesh.size, **leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])

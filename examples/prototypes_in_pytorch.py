"""Keep the class prototypes of a PyTorch model apart: the energy and its gradient come from JAX.

The model is a linear embedding and 40 prototypes in 8 dimensions, on noisy data of 40 classes. Without
PyTorch there is nothing to show.
"""

import jax
import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

import hyperface_jax as hf

CLASSES, DIM, SCALE = 40, 8, 16.0
torch.manual_seed(0)
centers = normalize(torch.randn(CLASSES, DIM) + 0.8)
labels = torch.randint(CLASSES, (1000,))
features = normalize(centers[labels] + 0.3 * torch.randn(1000, DIM))

energy = jax.jit(jax.value_and_grad(hf.as_objective(hf.SoftMax(inverse_temperature=20.0))))


class Dispersion(torch.autograd.Function):
    """The soft maximum of the cosines of unit rows, for the autograd of PyTorch."""

    @staticmethod
    def forward(ctx, rows):
        """Compute the energy in JAX, and keep its gradient."""
        value, gradient = energy(rows.detach().numpy())
        ctx.save_for_backward(torch.from_numpy(np.array(gradient)))
        return torch.tensor(float(value))

    @staticmethod
    def backward(ctx, *outputs):
        """Scale the gradient."""
        return outputs[0] * ctx.saved_tensors[0]


for strength in (0.0, 1.0):
    torch.manual_seed(1)
    embed = torch.nn.Linear(DIM, DIM)
    prototypes = torch.nn.Parameter(torch.randn(CLASSES, DIM))
    optimizer = torch.optim.Adam([*embed.parameters(), prototypes], lr=0.02)
    for _ in range(200):
        rows = normalize(prototypes)
        loss = cross_entropy(SCALE * normalize(embed(features)) @ rows.T, labels)
        loss = loss + strength * Dispersion.apply(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    closest = hf.max_cosine(normalize(prototypes).detach().numpy())
    print(f"dispersion {strength}: closest prototypes at cosine {closest:.3f}")

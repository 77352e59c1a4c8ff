"""Find the real person whom each synthetic identity resembles most, and how strongly.

The two arrays stand in for embeddings from one recognizer; use ``numpy.load`` to read your own.
"""

import jax
import jax.numpy as jnp
import numpy as np

import hyperface_jax as hf
from hyperface_jax.evaluation import impostor_threshold, nearest_pairs

real_key, synthetic_key, noise_key = jax.random.split(jax.random.key(0), 3)
real = hf.sphere.sample_uniform(real_key, 2000, 128)
copies = hf.sphere.normalize(real[:5] + 0.05 * jax.random.normal(noise_key, (5, 128)))
synthetic = jnp.concatenate([copies, hf.sphere.sample_uniform(synthetic_key, 995, 128)])

threshold = impostor_threshold(real, far=1e-6)
found = nearest_pairs(synthetic, real)
print(f"{sum(found.cosine > threshold)} of {len(synthetic)} above the threshold {threshold:.4f}")
for identity in np.argsort(-found.cosine)[:3]:
    print(f"identity {identity}: person {found.nearest[identity]}, {found.cosine[identity]:.4f}")

import jax
import pytest

from hyperface_jax import sharding

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(params=[1, 2, 3, 8])
def mesh(request):
    return sharding.make_mesh(jax.devices()[: request.param])

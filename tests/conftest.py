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


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped():
    """Thousands of compiled programs in one process would use up its memory mappings."""
    yield
    jax.clear_caches()

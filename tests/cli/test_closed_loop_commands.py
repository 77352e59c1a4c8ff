"""Commands of a closed loop inside one process."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from hyperface_jax.cli.closed_loop.commands import Stopped, run, sharing_compilations

DIR, SECONDS = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture
def clean_config():
    before = {name: getattr(jax.config, name) for name in (DIR, SECONDS)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def _compile(shift):
    return jax.jit(lambda x: jnp.sin(x) @ x + shift)(jnp.ones((8, 8))).block_until_ready()


def test_equal_programs_are_compiled_once_and_nothing_is_left(clean_config):
    jax.config.update(DIR, None)
    _compile(1.0)
    with sharing_compilations():
        folder = Path(getattr(jax.config, DIR))
        jax.config.update(SECONDS, 0.0)
        _compile(2.0)
        kept = sorted(path.name for path in folder.iterdir() if "lambda" in path.name)
        _compile(2.0)
        assert kept == sorted(path.name for path in folder.iterdir() if "lambda" in path.name)
        assert len([name for name in kept if name.endswith("-cache")]) == 1
    assert not folder.exists()
    assert getattr(jax.config, DIR) is None
    _compile(3.0)


def test_a_cache_of_the_user_is_used(clean_config, tmp_path):
    jax.config.update(DIR, str(tmp_path))
    with sharing_compilations():
        assert getattr(jax.config, DIR) == str(tmp_path)
    assert getattr(jax.config, DIR) == str(tmp_path)


def test_a_command_that_fails_stops_the_loop(tmp_path, capsys):
    with pytest.raises(Stopped) as stopped:
        run("pack", "--num-ids", 1, "--dim", 4, "--out", tmp_path / "run")
    assert stopped.value.code == 2
    assert "--num-ids" in capsys.readouterr().err

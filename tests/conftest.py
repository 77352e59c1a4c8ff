"""How the tests run: one core a worker, programs compiled in haste, eight devices."""

import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

HASTE = "JAX_DISABLE_MOST_OPTIMIZATIONS"
# Half of the time of a compilation on a CPU is that of the fusion emitters, which users have.
# Where haste is no gain, because a program runs long, level 1 compiles in half the time of level 3.
OF_USERS = {"xla_cpu_use_fusion_emitters": True, "xla_backend_optimization_level": 3}
QUICK_COMPILER = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    " --xla_cpu_parallel_codegen_split_count=1"
)
LAST_WITH_THE_CHOICE = (0, 10)  # Later versions of jaxlib end at a flag that they do not know.
OPTIMIZED = ("fully_optimized", "long_running")
MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 20_000  # Linux allows 65,530
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" >> "$COMMANDS"
printf '\\n' >> "$COMMANDS"
"""
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _stay_on_one_core():
    """Give each worker a core, as thread pools of all cores in each would get in their way."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


# Thread pools are made as numpy and JAX are imported.
_stay_on_one_core()
os.environ.setdefault(HASTE, "1")
HASTE_IS_ALLOWED = os.environ[HASTE] == "1"
if HASTE_IS_ALLOWED and (*map(int, version("jaxlib").split(".")[:2]),) <= LAST_WITH_THE_CHOICE:
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILER)
IS_QUICK = os.getenv("XLA_FLAGS") == QUICK_COMPILER

import jax  # noqa: E402

from hyperface_jax import meshes  # noqa: E402

_compile = jax.stages.Lowered.compile
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_include_full_tracebacks_in_locations", False)  # They take time to write.
jax.config.update("jax_num_cpu_devices", 8)


def pytest_collection_modifyitems(items):
    """Let tests that build on each other come first, and those compiled without haste at the end.

    Idle workers take the last ones, and a switch of the compiler drops what is compiled.
    """

    def place(item):
        has = item.get_closest_marker
        return has("in_order") is None, any(map(has, OPTIMIZED))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Give what a test of several processes starts all cores."""
    if CORES is None or not item.get_closest_marker("every_core"):
        return (yield)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    try:
        return (yield)
    finally:
        os.sched_setaffinity(0, own)


def _compile_as_for_users(lowered, compiler_options=None, **settings):
    return _compile(lowered, OF_USERS | (compiler_options or {}), **settings)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile with all optimizations where a test is about them, and with some where it runs long."""
    is_hasty = HASTE_IS_ALLOWED and not any(map(item.get_closest_marker, OPTIMIZED))
    if is_hasty != (os.environ[HASTE] == "1"):
        os.environ[HASTE] = "1" if is_hasty else "0"
        jax.config.update("jax_disable_most_optimizations", is_hasty)
        jax.clear_caches()
    is_for_users = IS_QUICK and not is_hasty and not item.get_closest_marker("tpu_aot")
    jax.stages.Lowered.compile = _compile_as_for_users if is_for_users else _compile


@pytest.fixture(autouse=True, scope="session")
def small_batches_of_toy_faces():
    """Draw one block at a time: the last batch is filled up, and what haste compiles draws slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperface_jax.toyfaces.renderer._BATCH", 64)
        yield


@pytest.fixture(autouse=True)
def figures_are_saved_empty(request, monkeypatch):
    """Save empty figures of the same sizes: axes and letters take half of the time of a short run.

    What fixtures of a module save is drawn.
    """
    if request.node.get_closest_marker("draws_figures"):
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return

    saved = Figure.savefig

    def save_empty(figure, *args, **settings):
        saved(Figure(figsize=figure.get_size_inches(), dpi=figure.dpi), *args, **settings)

    monkeypatch.setattr(Figure, "savefig", save_empty)


@pytest.fixture(scope="session")
def commands_of(tmp_path_factory):
    """Return a function from a block to the words of its ``hyperface`` commands.

    Bash reads the block in the current folder as the page has it; what it would start is only noted.
    """
    folder = tmp_path_factory.mktemp("commands")
    commands, program = folder / "commands", folder / "hyperface"
    program.write_text(RECORDER)
    program.chmod(0o755)
    path = (folder, Path(sys.executable).parent, os.environ["PATH"])
    variables = os.environ | {
        "PATH": os.pathsep.join(map(os.fspath, path)),
        "COMMANDS": os.fspath(commands),
    }

    def commands_of(block):
        commands.write_text("")
        subprocess.run(["bash", "-euc", block], env=variables, check=True)
        return [line.split("\0")[:-1] for line in commands.read_text().splitlines()]

    return commands_of


@pytest.fixture(scope="session")
def on_one_device():
    """Return a context in which there is one device, as on most machines of users."""

    @contextmanager
    def on_one_device():
        device = jax.devices()[:1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "device_count", lambda: 1)
            for devices in ("devices", "local_devices"):
                patch.setattr(jax, devices, lambda: device)
            yield

    return on_one_device


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(params=[1, 2, 3, 8])
def mesh(request):
    return meshes.make_mesh(jax.devices()[: request.param])


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped(request):
    """Thousands of compiled programs in one process would use up its memory mappings.

    Testmon sees which code a test runs through, and a compiled program runs through none.
    """
    yield
    are_many = not MAPPINGS.exists() or MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS
    if are_many or request.config.getoption("testmon", default=False):
        jax.clear_caches()

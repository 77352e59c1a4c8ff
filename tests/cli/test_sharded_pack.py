"""``hyperface pack`` over several devices and processes: same packing, any restart, clear ends.

Jobs of several processes are those of a user; a run on several devices of one process is run here.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main

pytestmark = pytest.mark.every_core
PACK = ["pack", "--num-ids", 500, "--dim", 16, "--checkpoint-seconds", 0]
LONG = [*PACK, "--steps", 800]


def _run(words, devices=1):
    assert main([*map(str, words), "--devices", str(devices)]) == 0


def _start(commands, results, devices):
    """Start the two processes of a job on virtual devices of this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = json.dumps([list(map(str, words)) for words in commands])
    script = Path(__file__).with_name("job_process.py")
    jobs = []
    for number in range(2):
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, str(script), given, str(results)]
        jobs.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return jobs


def _points(out):
    return np.load(out / "embeddings.npy")


def _summary(out):
    return json.loads((out / "summary.json").read_text())


def _has_checkpoint(out, number):
    steps = [p for p in (out / "checkpoints").glob("*") if p.name.isdigit()]
    return any(int(p.name) >= number for p in steps)


def _wait_for_checkpoint(out, number, is_running):
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and is_running():
        if _has_checkpoint(out, number):
            return True
        time.sleep(0.01)
    return False


def _run_and_stop(words, out, number=1, devices=1):
    """Run, and send this process SIGTERM after a checkpoint."""
    main_thread = threading.main_thread()
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    codes = []

    def stop():
        if _wait_for_checkpoint(out, number, lambda: not codes):
            signal.pthread_kill(main_thread.ident, signal.SIGTERM)

    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        codes.append(main([*map(str, words), "--out", str(out), "--devices", str(devices)]))
    finally:
        codes.append(None)
        watcher.join()
        signal.signal(signal.SIGTERM, previous)
    assert codes[0] == 130
    assert not (out / "summary.json").exists()


# Processes that end well


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A packing near frozen rows and a gallery, and what goes wrong, in one job of two processes."""
    root = tmp_path_factory.mktemp("job")
    rng = np.random.default_rng(0)
    np.save(root / "gallery.npy", rng.normal(size=(77, 8)).astype(np.float32) + 0.5)
    np.save(root / "old.npy", rng.normal(size=(11, 8)).astype(np.float32))
    words = ["pack", "--num-ids", 30, "--gallery", root / "gallery.npy"]
    words += ["--frozen", root / "old.npy", "--steps", 20]
    (root / "file").write_text("not a folder")
    commands = {
        "two": words,
        "other settings": [*words, "--seed", 1],
        "no folder": words,
    }
    outs = (root / "two", root / "two", root / "file")
    commands = [[*words, "--out", out] for words, out in zip(commands.values(), outs, strict=True)]
    jobs = _start(commands, root / "said", devices=4)
    outputs = [job.communicate(timeout=300) for job in jobs]
    assert [job.returncode for job in jobs] == [2, 3], outputs
    _run([*words, "--out", root / "one"])
    said = [json.loads((root / f"said.{i}.json").read_text()) for i in range(2)]
    return root, list(zip(*said, strict=True))


def test_one_device_and_two_processes_of_four_give_one_packing(job):
    root, said = job
    assert [code for code, _ in said[0]] == [0, 0]
    one, two = _points(root / "one"), _points(root / "two")
    assert two.shape == (41, 8)
    old = np.load(root / "old.npy")
    np.testing.assert_allclose(one[:11], old / np.linalg.norm(old, axis=1)[:, None], atol=1e-6)
    np.testing.assert_array_equal(two[:11], one[:11])
    np.testing.assert_allclose(two, one, atol=1e-5)
    figures = _summary(root / "two")
    nearness = _summary(root / "one")["gallery_mean_cosine"]
    assert figures["gallery_mean_cosine"] == pytest.approx(nearness, abs=1e-5)
    assert (figures["num_devices"], figures["num_processes"]) == (8, 2)
    history = (root / "two" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == list(range(20))


@pytest.mark.parametrize(("place", "message"), [(1, "other settings"), (2, "hyperface: error")])
def test_bad_input_ends_all_processes(job, place, message):
    _, said = job
    (first_code, first), (second_code, second) = said[place]
    assert (first_code, second_code) == (2, 3)
    assert message in first
    assert "Traceback" not in first + second


# Stops


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    _run([*LONG, "--out", out])
    return _summary(out)["max_cosine"]


def _goes_on(out, whole, capsys, devices=1):
    capsys.readouterr()
    _run([*LONG, "--out", out], devices)
    assert "resuming at step" in capsys.readouterr().out
    assert _points(out).shape == (500, 16)
    assert _summary(out)["max_cosine"] == pytest.approx(whole, abs=2e-3)
    assert not (out / ".embeddings.npy.partial").exists()


def test_a_run_of_eight_devices_goes_on_with_three(whole, tmp_path, capsys):
    out = tmp_path / "run"
    _run_and_stop(LONG, out, devices=8)
    _goes_on(out, whole, capsys, devices=3)


def test_mini_batches_go_on_with_fewer_devices_exactly(tmp_path, capsys):
    words = [*PACK, "--method", "stochastic", "--batch-size", 40, "--steps", 100, "--no-relax"]
    out = tmp_path / "run"
    _run_and_stop(words, out, devices=4)
    _run([*words, "--out", out], devices=2)
    _run([*words, "--out", tmp_path / "whole"], devices=4)
    np.testing.assert_allclose(_points(out), _points(tmp_path / "whole"), atol=1e-4)
    assert main([*map(str, words), "--out", str(out), "--devices", "3"]) == 2
    assert "3 devices cannot share them evenly" in capsys.readouterr().err


def _started(out, number, *words, devices=2):
    """Start a job of two processes, and return it after a checkpoint."""
    jobs = _start([[*LONG, *words, "--out", out]], out.with_name("said"), devices)
    is_running = lambda: all(job.poll() is None for job in jobs)  # noqa: E731
    if not _wait_for_checkpoint(out, number, is_running):
        for job in jobs:
            job.kill()
        raise AssertionError(f"no checkpoint: {[job.communicate() for job in jobs]}")
    return jobs


def test_sigterm_to_one_of_two_processes_saves_and_one_process_goes_on(tmp_path, whole, capsys):
    out = tmp_path / "run"
    jobs = _started(out, 1)
    jobs[1].send_signal(signal.SIGTERM)
    outputs = [job.communicate(timeout=100) for job in jobs]
    assert [job.returncode for job in jobs] == [130, 130], outputs
    assert "stopped and saved" in outputs[0][0]
    _goes_on(out, whole, capsys)


def test_a_stuck_peer_ends_the_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_SECONDS", "300")
    # Three reports: before that, programs may still compile.
    jobs = _started(tmp_path / "run", 300, "--stall-seconds", 1, devices=1)
    jobs[1].send_signal(signal.SIGSTOP)
    try:
        _, error = jobs[0].communicate(timeout=100)
    finally:
        jobs[1].kill()
        jobs[1].communicate()
    assert jobs[0].returncode == 3
    assert "saw no progress for" in error, error[-2000:]
    assert "holds the last complete checkpoint" in error


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_peer_ends_the_job_and_loses_nothing(tmp_path, victim, capsys):
    out = tmp_path / "run"
    jobs = _started(out, 2)
    jobs[victim].kill()
    started = time.monotonic()
    _, error = jobs[1 - victim].communicate(timeout=100)
    assert time.monotonic() - started < 60
    jobs[victim].communicate()
    assert jobs[1 - victim].returncode not in (0, 2, None)
    assert "lost touch with another one" in error, error[-2000:]
    assert "run the same command to go on" in error
    last = max(int(p.name) for p in (out / "checkpoints").glob("*") if p.name.isdigit())
    _run_and_stop(LONG, out, last + 1)
    assert "resuming at step" in capsys.readouterr().out

"""``hyperface pack`` over several devices and processes: same packing, any restart, clear ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

PACK = ["pack", "--num-ids", 1001, "--dim", 32, "--checkpoint-seconds", 0]


def _start(words, *, devices=1, processes=1):
    """Start the processes of a job on virtual devices of this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hyperface_jax.cli.main", *map(str, words)]
    jobs = []
    for number in range(processes):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(number),
            }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        jobs.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return jobs


def _finish(jobs, codes=(0,)):
    outputs = [job.communicate(timeout=300) for job in jobs]
    for job, output in zip(jobs, outputs, strict=True):
        assert job.returncode in codes, output
    return outputs


def _run(words, **where):
    return _finish(_start(words, **where))


def _points(out):
    return np.load(out / "embeddings.npy")


def _summary(out):
    return json.loads((out / "summary.json").read_text())


def _wait_for_checkpoint(jobs, out, number):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and all(job.poll() is None for job in jobs):
        steps = [p for p in (out / "checkpoints").glob("*") if p.name.isdigit()]
        if any(int(p.name) >= number for p in steps):
            return
        time.sleep(0.02)
    for job in jobs:
        job.kill()
    raise AssertionError(f"no checkpoint {number}: {[job.communicate() for job in jobs]}")


def test_one_device_eight_and_two_processes_of_four_give_one_packing(tmp_path):
    words = ["pack", "--num-ids", 4096, "--dim", 128, "--steps", 50]
    where = {
        "one": {},
        "eight": {"devices": 8},
        "two": {"devices": 4, "processes": 2},
    }
    for name, devices in where.items():
        _run([*words, "--out", tmp_path / name], **devices)
    one = _points(tmp_path / "one")
    for name in ("eight", "two"):
        np.testing.assert_allclose(_points(tmp_path / name), one, atol=1e-5)
    figures = _summary(tmp_path / "two")
    assert (figures["num_devices"], figures["num_processes"]) == (8, 2)
    history = (tmp_path / "two" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == list(range(50))


def _stopped(tmp_path, words, **where):
    """Start a run and stop it by SIGTERM to its last process after a checkpoint."""
    out = tmp_path / "run"
    jobs = _start([*words, "--out", out], **where)
    _wait_for_checkpoint(jobs, out, 1)
    jobs[-1].send_signal(signal.SIGTERM)
    outputs = _finish(jobs, codes=(130,))
    assert "stopped and saved" in outputs[0][0]
    return out


@pytest.mark.parametrize("devices", [2, 3])
def test_a_run_of_eight_devices_goes_on_with_fewer(tmp_path, devices):
    words = [*PACK, "--steps", 1200]
    out = _stopped(tmp_path, words, devices=8)
    outputs = _run([*words, "--out", out], devices=devices)
    assert "resuming at step" in outputs[0][0]
    _run([*words, "--out", tmp_path / "whole"])
    assert _points(out).shape == (1001, 32)
    whole = _summary(tmp_path / "whole")["max_cosine"]
    assert _summary(out)["max_cosine"] == pytest.approx(whole, abs=2e-3)
    assert not (out / ".embeddings.npy.partial").exists()


def test_sigterm_to_one_of_two_processes_saves_and_one_process_goes_on(tmp_path):
    words = [*PACK, "--steps", 1200]
    out = _stopped(tmp_path, words, devices=2, processes=2)
    outputs = _run([*words, "--out", out])
    assert "resuming at step" in outputs[0][0]
    assert _points(out).shape == (1001, 32)


def test_mini_batches_go_on_with_fewer_devices_exactly(tmp_path):
    words = [*PACK, "--method", "stochastic", "--batch-size", 40, "--steps", 400]
    out = _stopped(tmp_path, words, devices=4)
    _run([*words, "--out", out], devices=2)
    _run([*words, "--out", tmp_path / "whole"], devices=4)
    np.testing.assert_allclose(_points(out), _points(tmp_path / "whole"), atol=1e-4)
    (job,) = _start([*words, "--out", out], devices=3)
    assert "3 devices cannot share them evenly" in job.communicate(timeout=100)[1]
    assert job.returncode == 2


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_peer_ends_the_job_and_loses_nothing(tmp_path, victim):
    words, out = [*PACK, "--steps", 3000], tmp_path / "run"
    jobs = _start([*words, "--out", out], devices=2, processes=2)
    _wait_for_checkpoint(jobs, out, 2)
    jobs[victim].kill()
    started = time.monotonic()
    _, error = jobs[1 - victim].communicate(timeout=200)
    assert time.monotonic() - started < 120
    assert jobs[1 - victim].returncode not in (0, 2, None)
    assert "lost touch with another one" in error, error[-2000:]
    assert "run the same command to go on" in error
    last = max(int(p.name) for p in (out / "checkpoints").glob("*") if p.name.isdigit())
    jobs = _start([*words, "--out", out])
    _wait_for_checkpoint(jobs, out, last + 1)
    jobs[0].send_signal(signal.SIGTERM)
    ((said, _),) = _finish(jobs, codes=(130,))
    assert "resuming at step" in said


def test_bad_input_ends_all_processes(tmp_path):
    out = tmp_path / "run"
    _run(["pack", "--num-ids", 20, "--dim", 4, "--steps", 2, "--out", out])
    jobs = _start(["pack", "--num-ids", 21, "--dim", 4, "--out", out], processes=2)
    (_, first), (_, second) = _finish(jobs, codes=(2, 3))
    assert "other settings" in first
    assert "Traceback" not in first + second


def test_a_folder_of_something_else_ends_all_processes(tmp_path):
    (tmp_path / "run").write_text("not a folder")
    words = ["pack", "--num-ids", 20, "--dim", 4, "--out", tmp_path / "run"]
    (_, first), (_, second) = _finish(_start(words, processes=2), codes=(2, 3))
    assert "hyperface: error" in first
    assert "Traceback" not in first + second


def test_frozen_rows_and_gallery_over_processes(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "gallery.npy", rng.normal(size=(77, 8)).astype(np.float32) + 0.5)
    _run(["pack", "--num-ids", 11, "--dim", 8, "--steps", 9, "--out", tmp_path / "old"])
    old = tmp_path / "old" / "embeddings.npy"
    words = ["pack", "--num-ids", 30, "--gallery", tmp_path / "gallery.npy", "--frozen", old]
    words += ["--steps", 8]
    _run([*words, "--out", tmp_path / "one"])
    _run([*words, "--out", tmp_path / "two"], devices=3, processes=2)
    one, two = _points(tmp_path / "one"), _points(tmp_path / "two")
    assert two.shape == (41, 8)
    np.testing.assert_array_equal(two[:11], np.load(old))
    np.testing.assert_allclose(two, one, atol=1e-5)
    assert _summary(tmp_path / "two")["gallery_mean_cosine"] == pytest.approx(
        _summary(tmp_path / "one")["gallery_mean_cosine"], abs=1e-5
    )

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.recognition.sources import open_source
from hyperface_jax.synthesis import shards
from hyperface_jax.synthesis.manifest import ImageFigures, merge_manifests, read_manifest
from hyperface_jax.synthesis.shards import DataSet, ShardPlan
from hyperface_jax.synthesis.writer import check_space, run_shards, try_claim

sys.path.insert(0, str(Path(__file__).parent))
import shard_worker as worker

FIGURES = ImageFigures(0, 0, 1.0)
FORMATS = ["webdataset", "folder"]
IMAGES = {"webdataset": "shards", "folder": "images"}


def _files(path):
    """Every file that is not hidden, by its content."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    }


def _write(path, kind="webdataset", **settings):
    data_set = worker.data_set(path, format=kind, **settings)
    data_set.claim()
    counts = run_shards(data_set, data_set.plan.order(0, 1), worker.write_shard)
    return data_set, counts


def _start(path, kind, pause):
    script = str(Path(worker.__file__))
    return subprocess.Popen(
        [sys.executable, script, str(path), kind, str(pause)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_training_reads_what_was_written(tmp_path, kind):
    _, counts = _write(tmp_path, kind)
    assert counts == (5, 0, 0)
    source = open_source(tmp_path / IMAGES[kind])
    found = {
        (int(source.classes[s.label]), s.image) for s in map(source.__getitem__, range(len(source)))
    }
    wanted = {(i, worker.image(i, j)) for i in range(6) for j in range(5) if (i + j) % 9 != 8}
    assert found == wanted


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_images_make_the_same_files(tmp_path, kind):
    for name in ("one", "two"):
        _write(tmp_path / name, kind)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_the_tar_is_a_tar(tmp_path):
    _write(tmp_path)
    with tarfile.open(tmp_path / "shards" / "shard-000001.tar") as tar:
        names = tar.getnames()
        assert names[:2] == ["00000001_00002.png", "00000001_00002.cls"]
        assert tar.extractfile(names[1]).read() == b"1"
        assert {(m.mtime, m.uid, m.gid) for m in tar.getmembers()} == {(0, 0, 0)}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("num_lines", [1, 3])
def test_a_killed_worker_loses_and_doubles_nothing(tmp_path, kind, num_lines):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _write(whole, kind)
    process = _start(broken, kind, 0.05)
    for _ in range(num_lines):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    finished = _files(broken)
    assert len(finished) < len(_files(whole))
    _write(broken, kind)
    assert _files(broken) == _files(whole)
    assert {k: v for k, v in _files(broken).items() if k in finished} == finished
    leftovers = [p for p in broken.rglob(".*") if p.name != ".locks" and p.parent.name != ".locks"]
    assert leftovers == []


@pytest.mark.parametrize("kind", FORMATS)
def test_two_workers_of_the_same_rank_never_write_a_shard_twice(tmp_path, kind):
    processes = [_start(tmp_path / "both", kind, 0.02) for _ in range(2)]
    written = [line for p in processes for line in p.communicate(timeout=60)[0].splitlines()]
    assert all(p.returncode == 0 for p in processes)
    lines = [line for line in written if line.startswith("wrote")]
    assert sorted(lines) == [f"wrote {shard}" for shard in range(5)]
    _write(tmp_path / "alone", kind)
    assert _files(tmp_path / "both") == _files(tmp_path / "alone")


def test_a_finished_and_a_held_shard_are_passed_over(tmp_path):
    data_set, _ = _write(tmp_path)
    assert try_claim(data_set, 0) is None
    data_set.part(1).unlink()
    with try_claim(data_set, 1) as first:
        assert try_claim(data_set, 1) is None
        assert run_shards(data_set, range(5), worker.write_shard) == (0, 4, 1)
        worker.write_shard(first)
    assert data_set.is_finished(1)


def _fail_midway(writer):
    writer.add(identity=0, sample=0, image=b"x" * 10**6, suffix="png", figures=FIGURES)
    raise ZeroDivisionError


@pytest.mark.parametrize("kind", FORMATS)
def test_an_error_in_a_shard_leaves_no_trace_of_it(tmp_path, kind):
    data_set = worker.data_set(tmp_path, format=kind)
    data_set.claim()
    before = _files(tmp_path)
    with pytest.raises(ZeroDivisionError), try_claim(data_set, 0) as writer:
        _fail_midway(writer)
    assert _files(tmp_path) == before
    assert not data_set.is_finished(0)
    with try_claim(data_set, 0) as writer:
        worker.write_shard(writer)
    assert data_set.is_finished(0)


def test_images_come_in_order_and_all(tmp_path):
    data_set = worker.data_set(tmp_path)
    data_set.claim()
    with pytest.raises(ValueError, match=r"\(0, 0\) is the next"), try_claim(data_set, 0) as writer:
        writer.add(identity=0, sample=1, image=b"x", suffix="png", figures=FIGURES)
    with pytest.raises(ValueError, match="1 of 7 images"), try_claim(data_set, 0) as writer:
        writer.add(identity=0, sample=0, image=b"x", suffix="png", figures=FIGURES)
    assert not data_set.is_finished(0)


@pytest.mark.parametrize("kind", FORMATS)
def test_originals_are_kept_beside_the_faces(tmp_path, kind):
    plan = ShardPlan(num_ids=1, images_per_id=2, shard_size=2)
    data_set = DataSet(path=tmp_path, plan=plan, settings={}, format=kind, has_originals=True)
    data_set.claim()
    with try_claim(data_set, 0) as writer:
        for sample in range(2):
            writer.add(
                identity=0,
                sample=sample,
                image=b"face",
                suffix="jpg",
                figures=FIGURES,
                original=b"original",
            )
    assert {s.image for s in map(open_source(tmp_path / "originals").__getitem__, range(2))} == {
        b"original"
    }
    data_set.part(0).unlink()
    with pytest.raises(ValueError, match="1 files for 2 places"), try_claim(data_set, 0) as writer:
        writer.add(identity=0, sample=0, image=b"x", suffix="jpg", figures=FIGURES)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disc_stops_clearly_and_leaves_whole_shards(tmp_path, kind):
    most = {"webdataset": 3000, "folder": 300}[kind]

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    script = str(Path(worker.__file__))
    done = subprocess.run(
        [sys.executable, script, str(tmp_path / "full"), kind, "0"],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "InputError" in done.stderr
    assert "choose another folder" in done.stderr.splitlines()[-1]
    assert not [
        p for p in (tmp_path / "full").rglob("*") if p.is_file() and p.stat().st_size == most
    ]
    _write(tmp_path / "full", kind)
    _write(tmp_path / "whole", kind)
    assert _files(tmp_path / "full") == _files(tmp_path / "whole")


def test_no_space_left_names_the_file_and_the_mend(tmp_path, monkeypatch):
    def full(self, data):
        with shards.writing(self.path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data_set = worker.data_set(tmp_path)
    data_set.claim()
    monkeypatch.setattr(shards.StagedFile, "write", full)
    with pytest.raises(InputError, match=r"shard-000000\.tar.*free some space"):
        run_shards(data_set, [0], worker.write_shard)
    assert list((tmp_path / "shards").iterdir()) == []


def test_what_cannot_fit_is_refused_before_it_starts(tmp_path):
    data_set = worker.data_set(tmp_path)
    data_set.claim()
    with pytest.raises(InputError, match="are free and the 30 images left need"):
        run_shards(data_set, [0], worker.write_shard, bytes_per_image=1e15)
    check_space(data_set, 1000)


def test_memory_does_not_grow_with_the_shard(tmp_path):
    def peak(num_ids):
        plan = ShardPlan(num_ids=num_ids, images_per_id=100, shard_size=10**6)
        data_set = DataSet(path=tmp_path / str(num_ids), plan=plan, settings={})
        data_set.claim()
        content = bytes(2000)
        tracemalloc.start()
        with try_claim(data_set, 0) as writer:
            for identity, sample in zip(*(a.tolist() for a in writer.images), strict=True):
                which = {"identity": identity, "sample": sample}
                writer.add(**which, image=content, suffix="png", figures=FIGURES)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    few, many = peak(5), peak(40)
    assert many - few < 3500 * 300, "a row of the manifest, not an image"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_manifest_has_a_row_for_every_image(tmp_path, kind):
    data_set, _ = _write(tmp_path, kind)
    table = read_manifest(merge_manifests(data_set)).to_pydict()
    assert list(zip(table["identity"], table["sample"], strict=True)) == [
        (i, j) for i in range(6) for j in range(5)
    ]
    dropped = (np.add(table["identity"], table["sample"]) % 9) == 8
    np.testing.assert_array_equal(table["is_kept"], ~dropped)
    for key, is_dropped in zip(table["key"], dropped, strict=True):
        assert (key is None) == is_dropped

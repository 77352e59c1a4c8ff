import sys
from pathlib import Path

import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.synthesis.manifest import (
    COLUMNS,
    manifest_settings,
    merge_manifests,
    read_manifest,
    summarize,
)
from hyperface_jax.synthesis.writer import run_shards

sys.path.insert(0, str(Path(__file__).parent))
import shard_worker as worker


@pytest.fixture
def data_set(tmp_path):
    data_set = worker.data_set(tmp_path)
    data_set.claim()
    run_shards(data_set, range(data_set.plan.num_shards), worker.write_shard)
    return data_set


def test_it_is_merged_only_when_every_shard_is_there(data_set):
    part = data_set.part(3).read_bytes()
    data_set.part(3).unlink()
    assert merge_manifests(data_set) is None
    assert not (data_set.path / "manifest.parquet").exists()
    data_set.part(3).write_bytes(part)
    assert len(read_manifest(merge_manifests(data_set))) == 30
    assert read_manifest(data_set.path).column_names == list(COLUMNS)


def test_its_metadata_holds_the_settings(data_set):
    assert manifest_settings(merge_manifests(data_set)) == data_set.record()


def test_the_summary_counts_what_is_there(data_set):
    summary = summarize(merge_manifests(data_set))
    dropped = [(i, j) for i in range(6) for j in range(5) if (i + j) % 9 == 8]
    assert summary["num_images"] == 30 - len(dropped)
    assert summary["num_rejected"] == len(dropped)
    assert summary["num_identities"] == 6
    assert summary["num_short_identities"] == len({i for i, _ in dropped})
    assert summary["target_cosine"]["0.5"] == pytest.approx(0.8)


@pytest.mark.parametrize("damage", [b"", b"PAR1 nothing PAR1"])
def test_a_damaged_part_is_named(data_set, damage):
    data_set.part(2).write_bytes(damage)
    with pytest.raises(InputError, match=r"shard-000002\.parquet"):
        merge_manifests(data_set)
    assert not (data_set.path / "manifest.parquet").exists()


def test_the_part_of_another_shard_is_refused(data_set):
    data_set.part(2).write_bytes(data_set.part(1).read_bytes())
    with pytest.raises(InputError, match=r"shard-000002\.parquet: holds other rows"):
        merge_manifests(data_set)


def test_another_parquet_file_is_no_manifest(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no manifest of this program"):
        read_manifest(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="cannot read"):
        read_manifest(tmp_path / "absent.parquet")


def test_a_manifest_of_an_earlier_version_is_read(data_set, tmp_path):
    """It has no columns for flat and for equal images: none was looked for."""
    import pyarrow.parquet as parquet

    path = merge_manifests(data_set)
    whole = parquet.read_table(path)
    parquet.write_table(whole.drop_columns(["is_flat", "sketch"]), tmp_path / "old.parquet")
    found = read_manifest(tmp_path / "old.parquet")
    assert found.column_names == list(COLUMNS)
    assert found.drop_columns(["is_flat", "sketch"]).equals(
        read_manifest(path).drop_columns(["is_flat", "sketch"])
    )
    assert not any(found["is_flat"].to_pylist())
    assert summarize(tmp_path / "old.parquet")["num_images"] == summarize(path)["num_images"]

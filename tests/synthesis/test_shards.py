import json
import multiprocessing

import numpy as np
import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.synthesis.shards import (
    DataSet,
    ShardPlan,
    StagedFile,
    locked,
    rank_and_world,
    read_data_set,
)

PLAN = ShardPlan(num_ids=5, images_per_id=3, shard_size=4)


def _data_set(path, *, plan=PLAN, **settings):
    return DataSet(path=path, plan=plan, settings={"seed": 0, "beta": 0.01} | settings)


def test_every_image_is_in_one_shard():
    pairs = [
        pair
        for shard in range(PLAN.num_shards)
        for pair in zip(*(a.tolist() for a in PLAN.images(shard)), strict=True)
    ]
    assert pairs == [(i, j) for i in range(5) for j in range(3)]
    assert [PLAN.num_images_of(s) for s in range(PLAN.num_shards)] == [4, 4, 4, 3]


def test_a_data_set_is_read_as_it_was_claimed(tmp_path):
    data_set = _data_set(tmp_path)
    data_set.claim()
    assert read_data_set(tmp_path) == data_set


def test_a_folder_of_something_else_is_no_data_set(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.json"):
        read_data_set(tmp_path)
    (tmp_path / "dataset.json").write_text('{"num_ids": 3}')
    with pytest.raises(InputError, match=r"dataset\.json: no field 'images_per_id'; give a folder"):
        read_data_set(tmp_path)


@pytest.mark.parametrize("shard", [-1, 4])
def test_there_is_no_shard_outside_the_plan(shard):
    with pytest.raises(IndexError, match="of 4"):
        PLAN.images(shard)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_workers_share_the_shards_and_can_take_over_all(world):
    own = np.concatenate([PLAN.shards_of(rank, world) for rank in range(world)])
    assert sorted(own) == list(range(PLAN.num_shards))
    for rank in range(world):
        order = PLAN.order(rank, world)
        assert sorted(order) == list(range(PLAN.num_shards))
        assert order[: len(PLAN.shards_of(rank, world))] == list(PLAN.shards_of(rank, world))


@pytest.mark.parametrize("name", ["num_ids", "images_per_id", "shard_size"])
def test_numbers_below_one_are_refused_by_name(name):
    numbers = {"num_ids": 1, "images_per_id": 1, "shard_size": 1} | {name: 0}
    with pytest.raises(InputError, match=f"{name}=0"):
        ShardPlan(**numbers)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "14",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "5",
            },
            (2, 5),
        ),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0"}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (0, 1)),
    ],
)
def test_the_launcher_says_which_worker_this_is(environ, expected):
    assert rank_and_world(environ) == expected


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"RANK": "0"}, "WORLD_SIZE"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK: says worker 2 of 2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1'"),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4"}, "SLURM_ARRAY_TASK_ID"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            "no step of 2",
        ),
    ],
)
def test_nonsense_of_the_launcher_is_named(environ, named):
    with pytest.raises(InputError, match=named):
        rank_and_world(environ)


def test_workers_that_mean_the_same_may_join(tmp_path):
    for _ in range(2):
        _data_set(tmp_path / "out").claim()
    assert (tmp_path / "out" / "shards").is_dir()


def test_another_data_set_is_refused_and_the_difference_named(tmp_path):
    _data_set(tmp_path).claim()
    with pytest.raises(InputError, match=r"beta \(0\.01 there, 0\.02 now\)"):
        _data_set(tmp_path, beta=0.02).claim()
    with pytest.raises(InputError, match=r"shard_size \(4 there, 5 now\)"):
        _data_set(tmp_path, plan=ShardPlan(num_ids=5, images_per_id=3, shard_size=5)).claim()


def test_a_data_set_of_an_earlier_version_goes_on(tmp_path):
    now = _data_set(tmp_path, recognizer_color="bgr", crop="center")
    record = now.record()
    record["recognizer_colour"] = record.pop("recognizer_color")
    (tmp_path / "dataset.json").write_text(json.dumps(record | {"crop": "centre"}))
    earlier = {
        "renamed": {"recognizer_colour": "recognizer_color"},
        "respelled": {"crop": {"centre": "center"}},
    }
    now.claim(**earlier)
    with pytest.raises(
        InputError, match=r"holds a data set .* recognizer_color \('bgr' there, None"
    ):
        _data_set(tmp_path, recognizer_color=None, crop="center").claim(**earlier)
    with pytest.raises(InputError, match=r"crop \('center' there, 'none' now\)"):
        _data_set(tmp_path, recognizer_color="bgr", crop="none").claim(**earlier)


def test_what_a_killed_worker_left_hidden_is_no_stranger(tmp_path):
    (tmp_path / ".hyperface-0123456789abcdef.tmp").write_text("{")
    _data_set(tmp_path).claim()
    assert (tmp_path / "dataset.json").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        _data_set(tmp_path).claim()
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["thesis.tex"]


def _hold(path, is_held, may_end):
    with locked(path):
        is_held.set()
        may_end.wait(30)


def test_a_lock_ends_with_its_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    is_held, may_end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "lock", is_held, may_end))
    other.start()
    assert is_held.wait(30)
    with locked(tmp_path / "lock") as got_it:
        assert not got_it
    other.kill()
    other.join(30)
    with locked(tmp_path / "lock") as got_it:
        assert got_it


def test_a_staged_file_is_there_when_it_is_published(tmp_path):
    staged = StagedFile(tmp_path / "a.bin")
    staged.write(b"abc")
    staged.finish()
    assert not (tmp_path / "a.bin").exists()
    staged.publish()
    staged.discard()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"abc")]

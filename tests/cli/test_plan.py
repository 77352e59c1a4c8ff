"""``hyperface plan``: what it prints, and what it refuses."""

import json

import pytest

from hyperface_jax.cli.main import main, parse

PLAN = ["plan", "--num-ids", "1000000", "--dim", "512", "--devices", "v5e:256"]


def test_prints_memory_time_and_settings(capsys):
    assert main(PLAN) == 0
    out = capsys.readouterr().out
    for piece in (
        "memory a device",
        "best points",
        "travelling",
        "time per step",
        "bottleneck: compute",
        "communication",
        "total time",
        "checkpoint: 6.02 GiB",
        "hyperface pack --num-ids 1000000 --out run --dim 512 --steps 200",
        "bfloat16 in the first 160 steps, then three bfloat16 products instead of a float32 one",
        "a float32 product is assumed to take 6 times as long as a bfloat16 one, and three passes 3",
        "this is a model",
        "it has not been run on v5e:256",
    ):
        assert piece in out


def test_a_gallery_costs_memory_and_searches(capsys):
    assert main([*PLAN, "--gallery-rows", "50000"]) == 0
    out = capsys.readouterr().out
    for piece in (
        "  gallery  ",
        "gallery: 20 searches for the nearest rows",
        "--gallery gallery.npy",
    ):
        assert piece in out


def test_json_holds_the_same(capsys):
    words = ["--method", "stochastic", "--batch-size", "2048", "--steps", "1000", "--json"]
    assert main([*PLAN, *words]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["method"] == "stochastic"
    assert plan["batch_size"] == 2048
    assert plan["num_steps"] == 1000
    parts = plan["step"]["memory"]
    assert sum(parts.values()) == pytest.approx(2 * parts["total"])
    assert plan["seconds"] > 1000 * plan["step"]["seconds"]
    assert "--batch-size 2048" in plan["command"]
    assert plan["machine"]["num_devices"] == 256


def test_the_command_is_one_that_pack_takes(capsys):
    import shlex

    assert main([*PLAN, "--method", "stochastic", "--json"]) == 0
    words = shlex.split(json.loads(capsys.readouterr().out)["command"])
    config = parse(words[1:])
    assert (config.num_ids, config.dim, config.method) == (1_000_000, 512, "stochastic")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--devices": "tpu:4"}, "unknown kind"),
        ({"--devices": "v5e:0"}, "1 or more"),
        ({"--num-ids": "1"}, "at least 2"),
        ({"--dim": "1"}, "at least 2"),
        ({"--steps": "0"}, "at least 1"),
        ({"--gallery-rows": "0"}, "at least 1"),
        ({"--batch-size": "64", "--method": "annealed"}, "stochastic"),
        ({"--num-ids": "1000000000", "--devices": "v5e:4"}, "use v5e:"),
        ({"--num-ids": "1000", "--method": "stochastic"}, "devices"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_bad_input_is_one_line(capsys, changes, said):
    given = {"--num-ids": "1000000", "--dim": "512", "--devices": "v5e:256", **changes}
    assert main(["plan", *(word for pair in given.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hyperface: error: ")
    assert error.count("\n") == 1
    assert said in error

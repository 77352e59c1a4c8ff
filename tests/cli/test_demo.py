"""``hyperface demo`` as a command: its settings and its words. The work is tested in tests/runs."""

from contextlib import chdir

from hyperface_jax import runs
from hyperface_jax.cli.main import main
from hyperface_jax.runs.demonstration import stage

SMALL = ["--quick", "--num-ids", 6, "--images-per-id", 4, "--gallery", 64, "--epochs", 2]
SMALL += ["--pairs", 40, "--test-ids", 12, "--reference-ids", 64]


def demo(*words):
    return main([str(word) for word in ("demo", *SMALL, *words)])


def test_the_command_runs_the_stages_and_says_so(tmp_path, monkeypatch, capsys):
    found = []

    def first(loop, watch):
        found.append(loop)
        watch.say("$ hyperface faces")
        raise runs.Stopped(loop.path / "1-gallery")

    monkeypatch.setattr(stage, "STAGES", {"make gallery": first})
    assert demo("--neighbours", 3, "--out", tmp_path / "demo") == 130
    (loop,) = found
    assert (loop.size.num_ids, loop.size.neighbors, loop.seed) == (6, 3, 0)
    printed = capsys.readouterr().out.splitlines()
    assert "on two idle cores" in printed[0]
    assert "too small to tell the ways apart" in printed[1]
    assert printed[2:5] == ["", "== 1 of 2: make gallery", "$ hyperface faces"]
    assert printed[5].startswith(f"{tmp_path / 'demo'}: stopped and saved")


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert demo("--out", tmp_path) == 2
    assert "no demo.json" in capsys.readouterr().err
    assert demo("--out", tmp_path / "new", "--gallery", 1) == 2
    assert "--gallery 1: must be 2 or more" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_quick_and_full_exclude_each_other(tmp_path, capsys):
    with chdir(tmp_path):
        assert main(["demo", "--quick", "--full"]) == 2
    assert capsys.readouterr().err.count("--quick, --full: they exclude each other") == 1
    assert not any(tmp_path.iterdir())

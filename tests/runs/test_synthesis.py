"""The stage that draws a data set, called from Python."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from hyperface_jax import runs
from hyperface_jax.runs.support.settings import command
from hyperface_jax.sphere import sample_uniform
from hyperface_jax.synthesis.manifest import manifest_settings, read_manifest
from hyperface_jax.synthesis.shards import locked

SYNTHESIS = Path(__file__).parents[1] / "synthesis"


@pytest.fixture(autouse=True)
def alone_and_with_the_fake_generator(monkeypatch):
    monkeypatch.syspath_prepend(str(SYNTHESIS))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small(tmp_path):
    """Return settings of 9 identities with 6 images each, in 6 shards."""
    path = tmp_path / "ids.npy"
    np.save(path, np.asarray(sample_uniform(jax.random.key(0), 9, 12)))

    def settings(**changes):
        given = {
            "embeddings": path,
            "generator": "fake_generator:FAKE",
            "out": tmp_path / "out",
            "images_per_id": 6,
            "shard_size": 10,
            "crop": "none",
        }
        return runs.Synthesize(**given | changes)

    return settings


def _make_generator(monkeypatch, paint):
    """Put a generator that draws with ``paint`` where the name ``own_generator:OWN`` finds it."""
    import fake_generator

    own = types.ModuleType("own_generator")
    own.OWN = dataclasses.replace(fake_generator.FAKE, function=paint)
    monkeypatch.setitem(sys.modules, "own_generator", own)
    return {"generator": "own_generator:OWN"}


def _content(out):
    return {path.name: path.read_bytes() for path in (out / "shards").glob("*.tar")}


def test_it_returns_the_figures_and_prints_nothing(small, capsys):
    config = small()
    result = runs.synthesize(config)
    assert capsys.readouterr() == ("", "")
    assert result.path == config.out
    stored = json.loads((config.out / "summary.json").read_text())
    assert result.summary == {"is_complete": True, **stored}
    lines = result.text.splitlines()
    assert lines == [
        "54 images of 9 identities",
        f"see {config.out / 'contact_sheet.png'}",
        f"report: {config.out / 'report.html'}",
    ]
    assert f"    {command(config)}\n" in (config.out / "README.md").read_text()
    assert len(read_manifest(config.out)) == 54


def test_it_tells_a_watch_how_far_it_is(small):
    told = []

    class Progress:
        def __init__(self, title, unit, total, done=0):
            told.append((title, unit, total, done))

        def __enter__(self):
            return lambda done, figure="": told.append(done)

        def __exit__(self, *error):
            pass

    runs.synthesize(small(), watch=runs.Watch(progress=Progress))
    assert told[0] == ("drawing faces", "images", 54, 0)
    assert told[-1] == 54
    assert told[1:] == sorted(told[1:])


def test_an_interrupted_one_keeps_its_shards_and_goes_on(small, tmp_path, monkeypatch):
    import fake_generator

    calls = []

    def paint(conditions, noise):
        calls.append(len(conditions))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fake_generator.paint(conditions, noise)

    own = _make_generator(monkeypatch, paint)
    with pytest.raises(runs.Stopped, match="every finished shard is kept") as stopped:
        runs.synthesize(small(**own))
    assert stopped.value.path == tmp_path / "out"
    assert sorted(_content(tmp_path / "out")) == ["shard-000000.tar", "shard-000001.tar"]
    assert not (tmp_path / "out" / "summary.json").exists()
    assert runs.synthesize(small(**own)).summary["is_complete"]
    assert sum(calls) == 54 + 10
    runs.synthesize(small(out=tmp_path / "whole"))
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")


def test_a_worker_that_others_keep_waiting_says_so(small, tmp_path):
    runs.synthesize(small())
    (tmp_path / "out" / "manifest" / "shard-000002.parquet").unlink()
    (tmp_path / "out" / "manifest" / "shard-000003.parquet").unlink()
    with locked(tmp_path / "out" / ".locks" / "shard-000002"):
        result = runs.synthesize(small())
    assert result.path == tmp_path / "out"
    counts = {"num_written": 1, "num_finished": 4, "num_held": 1}
    assert result.summary == {"is_complete": False, **counts}
    assert result.text == (
        "1 shards written; 1 are with other workers, the last of which completes "
        f"{tmp_path / 'out'}"
    )


def test_a_data_set_of_an_earlier_version_goes_on(small, tmp_path):
    runs.synthesize(small(crop="center", face_size=16))
    before = _content(tmp_path / "out")
    path = tmp_path / "out" / "dataset.json"
    record = json.loads(path.read_text())
    assert record["crop"] == "center"
    record["recognizer_colour"] = record.pop("recognizer_color")
    path.write_text(json.dumps(record | {"crop": "centre"}))
    (tmp_path / "out" / "manifest" / "shard-000002.parquet").unlink()
    assert runs.synthesize(small(crop="centre", face_size=16)).summary["is_complete"]
    assert _content(tmp_path / "out") == before


def _guided(monkeypatch):
    """Return a guided generator, and the settings that draw with it."""
    import fake_generator

    generator = fake_generator.Guided()
    monkeypatch.setattr(fake_generator, "GUIDED", generator)
    return generator, {"generator": "fake_generator:GUIDED"}


def test_faces_are_led_away_from_the_nearest_other_identity(small, tmp_path, monkeypatch):
    generator, settings = _guided(monkeypatch)
    config = small(**settings, negatives=0.5, num_ids=7, beta=0.0)
    assert runs.synthesize(config).summary["is_complete"]
    x = np.load(config.embeddings)[:7]
    scores = x @ x.T - 2 * np.eye(7)
    assert not np.array_equal(scores.argmax(1), (np.load(config.embeddings) @ x.T).argmax(1)[:7])
    neighbors = np.load(tmp_path / "out" / "neighbors.npy")
    np.testing.assert_array_equal(neighbors, scores.argmax(axis=1))
    seen = set()
    for conditions, negatives in zip(generator.conditions, generator.calls, strict=True):
        own = (conditions @ x.T).argmax(axis=1)
        seen |= set(own.tolist())
        np.testing.assert_array_equal(negatives.conditions, x[neighbors[own]])
        assert negatives.weight == 0.5
    assert seen == set(range(7))
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["negatives"] == 0.5
    assert manifest_settings(tmp_path / "out")["negatives"] == 0.5
    assert '"negatives": 0.5' in (tmp_path / "out" / "README.md").read_text()


def test_images_with_negatives_depend_on_no_batch_and_no_interruption(small, tmp_path, monkeypatch):
    from hyperface_jax.runs.synthesis import neighbors

    _, settings = _guided(monkeypatch)
    runs.synthesize(small(**settings, negatives=1.0))
    whole = _content(tmp_path / "out")
    runs.synthesize(small(**settings, negatives=1.0, batch_size=7, out=tmp_path / "other"))
    assert _content(tmp_path / "other") == whole
    runs.synthesize(small(**settings, out=tmp_path / "plain"))
    assert _content(tmp_path / "plain") != whole
    # A machine that rounds differently reads which neighbors the data set began with.
    monkeypatch.setattr(neighbors, "nearest_identities", lambda points: np.zeros(9, np.int64))
    (tmp_path / "out" / "manifest" / "shard-000002.parquet").unlink()
    runs.synthesize(small(**settings, negatives=1.0))
    assert _content(tmp_path / "out") == whole


def test_negatives_are_a_setting_of_the_data_set(small, tmp_path, monkeypatch):
    _, settings = _guided(monkeypatch)
    runs.synthesize(small(**settings))
    path = tmp_path / "out" / "dataset.json"
    record = json.loads(path.read_text())
    assert not (tmp_path / "out" / "neighbors.npy").exists()
    with pytest.raises(runs.InputError, match=r"negatives \(None there, 0.5 now\)"):
        runs.synthesize(small(**settings, negatives=0.5))
    del record["negatives"]
    path.write_text(json.dumps(record))
    (tmp_path / "out" / "manifest" / "shard-000002.parquet").unlink()
    assert runs.synthesize(small(**settings)).summary["is_complete"]


@pytest.mark.parametrize("content", [b"text", np.zeros(8, np.int64), np.full(9, 9)])
def test_damaged_neighbors_are_named(small, tmp_path, monkeypatch, content):
    _, settings = _guided(monkeypatch)
    config = small(**settings, negatives=0.5)
    runs.synthesize(config)
    path = tmp_path / "out" / "neighbors.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    (tmp_path / "out" / "manifest" / "shard-000002.parquet").unlink()
    with pytest.raises(runs.InputError, match=r"neighbors.npy: not the neighbors of 9 identities"):
        runs.synthesize(config)
    path.unlink()
    assert runs.synthesize(config).summary["is_complete"]


@pytest.mark.parametrize("options", [{"guidance": 1.0}, {"lcm_lora": Path("lora")}])
def test_negatives_without_guidance_are_refused_before_a_model_is_read(small, tmp_path, options):
    (tmp_path / "model").mkdir()
    config = small(
        generator=str(tmp_path / "model"), negatives=0.5, arc2face=runs.Arc2FaceOptions(**options)
    )
    with pytest.raises(runs.InputError, match=r"`negatives=0.5`: change nothing with `guidance=1`"):
        runs.synthesize(config)


def test_the_british_spelling_of_a_crop_is_accepted(small):
    assert small(crop="centre") == small(crop="center")


def test_doubtful_images_are_warned_of(small, monkeypatch):
    import fake_generator

    def some(conditions, noise):
        is_drawn = (noise[:, 0] > -1)[:, None, None, None]
        return fake_generator.paint(conditions, noise) * is_drawn.astype(np.uint8)

    warnings = []
    config = small(**_make_generator(monkeypatch, some), max_attempts=1)
    result = runs.synthesize(config, watch=runs.Watch(warn=warnings.append))
    num_flat = result.summary["num_flat"]
    assert 0 < num_flat < 54
    assert warnings[0].startswith(f"{num_flat} of 54 images came out of one color")
    assert f", {num_flat} dropped" in result.text


def test_nothing_but_images_of_one_color_is_an_error(small, monkeypatch):
    black = _make_generator(monkeypatch, lambda c, n: np.zeros((len(c), 16, 16, 3), np.uint8))
    with pytest.raises(runs.InputError, match=r"one color.* try `dtype=float32` with Arc2Face"):
        runs.synthesize(small(**black, max_attempts=1))


class _Reader:
    """A recognizer that reads the condition back, from a file with a weight that it does not use."""

    image_size, color, embedding_dim, digest, unused = 16, "rgb", 12, "reader", ("head.weight",)

    def __call__(self, images, /):
        from fake_generator import read

        return read(images)


def test_a_recognizer_measures_the_faces(small, tmp_path, monkeypatch):
    from hyperface_jax.faces import opening

    monkeypatch.setattr(opening, "open_recognizer", lambda path, *, color: _Reader())
    remarks = []
    config = small(recognizer=tmp_path / "reader", min_cosine=0.5)
    result = runs.synthesize(config, watch=runs.Watch(say=remarks.append))
    assert len(remarks) == 1
    assert "1 weights beside the network stay unused" in remarks[0]
    assert result.summary["fidelity"]["num_measured"] == 9
    assert "nearest other identity, mean cosine" in result.text
    assert len(list((tmp_path / "out" / "embeddings").glob("*.npz"))) == 6
    card = (tmp_path / "out" / "README.md").read_text()
    assert "hyperface leakage --embeddings PATH --against training.npz" in card


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images_per_id": 0}, "`images_per_id=0`: must be 1 or more"),
        ({"num_ids": 10}, "`num_ids=10`: .* holds 9 embeddings"),
        ({"quality": 0}, "`quality=0`: must be between 1 and 100"),
        ({"negatives": 1.5}, "`negatives=1.5`: must be between 0 and 1"),
        (
            {"negatives": 0.5},
            "`negatives`: generator fake takes none; leave them out, or use one with",
        ),
        ({"negatives": 0.5, "num_ids": 1}, "`negatives=0.5`: a single identity has no neighbor"),
        ({"seed": 2**63}, "`seed=9223372036854775808`: must be"),
        ({"min_target_cosine": 0.5}, "`min_target_cosine` needs `recognizer`"),
        ({"color": "bgr"}, "`color=bgr`: is that of `recognizer`"),
        ({"cap_share": 0.5}, "`cap_share` needs `min_cosine`"),
        ({"generator": "nowhere"}, "`generator=nowhere`: neither the folder"),
        ({"crop": "face"}, "`crop=face`: must be none, center"),
        ({"arc2face": runs.Arc2FaceOptions(steps=4)}, "`steps`: only the folder of a model"),
        ({"quality": 90}, "`quality` changes nothing with `image_format=png`"),
        ({"face_size": 64}, "`face_size` changes nothing with `crop=none`"),
        ({"min_cosine": 0.5, "beta": 0.1}, "`beta` changes nothing where `min_cosine`"),
        ({"min_cosine": 0.5, "cap_share": 0}, "`min_cosine` changes nothing with `cap_share=0`"),
    ],
)
def test_bad_settings_are_named_and_leave_nothing(small, tmp_path, changes, named):
    with pytest.raises(runs.InputError, match=named):
        runs.synthesize(small(**changes))
    assert not (tmp_path / "out").exists()


def test_the_command_has_the_options_of_arc2face_without_a_prefix(small, tmp_path):
    config = small(arc2face=runs.Arc2FaceOptions(steps=4, lcm_lora=Path("lora")))
    assert command(config).endswith("--crop none --shard-size 10 --steps 4 --lcm-lora lora")

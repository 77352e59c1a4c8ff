import pytest
import yaml

from hyperface_jax.synthesis.card import ARC2FACE_LICENSES, CardFacts, card_text, write_card

SUMMARY = {
    "num_images": 1234,
    "num_rejected": 5,
    "num_flat": 2,
    "num_identities": 20,
    "num_short_identities": 3,
    "num_retried": 7,
    "condition_cosine": {"0": 0.9, "1": 0.99},
    "target_cosine": None,
}


def _facts(**changes):
    facts = {
        "title": "faces",
        "license": "cc-by-4.0",
        "format": "webdataset",
        "num_shards": 2,
        "command": "hyperface synthesize --out faces",
        "settings": {"seed": 7, "generator_sha256": "abc"},
        "versions": {"torch": "2.13"},
        "licenses": ARC2FACE_LICENSES,
        "summary": SUMMARY,
    }
    return CardFacts(**facts | changes)


def test_the_hub_can_read_its_front_matter():
    _, front, _ = card_text(_facts()).split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["license"] == "cc-by-4.0"
    assert found["size_categories"] == ["1K<n<10K"]
    assert "synthetic" in found["tags"]


def test_it_says_how_it_was_made_and_of_what():
    text = card_text(_facts())
    for part in (
        "1,234",
        "hyperface synthesize --out faces",
        "abc",
        "torch: 2.13",
        "OpenRAIL-M",
        "MIT",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "embeddings", "words"),
    [
        ({"has_embeddings": True}, "PATH", ()),
        ({"format": "folder"}, "faces.npz", ("hyperface embed PATH/images --recognizer",)),
        ({}, "faces.npz", ("PATH/shards/*.tar", "hyperface embed faces --recognizer")),
    ],
)
def test_it_says_how_to_measure_the_leakage(changes, embeddings, words):
    text = card_text(_facts(**changes))
    measured = f"hyperface leakage --embeddings {embeddings} --against training.npz --out leakage"
    assert all(word in text for word in (measured, *words))
    assert ("faces.npz" in text) == (embeddings == "faces.npz")


@pytest.mark.parametrize(
    ("kind", "place"), [("webdataset", "PATH/shards"), ("folder", "PATH/images")]
)
def test_it_says_how_to_load_the_format(kind, place):
    assert f"hyperface train --data {place}" in card_text(_facts(format=kind))


def test_it_is_written_as_the_readme(tmp_path):
    assert write_card(tmp_path, _facts()) == tmp_path / "README.md"
    assert (tmp_path / "README.md").read_text() == card_text(_facts())

"""``hyperface ijb`` on files in the layout of IJB-C, against the protocol written out plainly."""

import json
import runpy
import types
from pathlib import Path

import numpy as np
import pytest

from hyperface_jax.cli.main import main
from hyperface_jax.errors import InputError
from hyperface_jax.evaluation import TemplateSums, template_embeddings
from hyperface_jax.faces import OnnxRecognizer
from hyperface_jax.io.images import TEMPLATE, align, encode
from hyperface_jax.io.resampling import resize_linear

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TINY_ONNX = Path(__file__).parents[1] / "faces" / "tiny_onnx.py"
tiny = types.SimpleNamespace(**runpy.run_path(str(TINY_ONNX)))

RNG = np.random.default_rng(3)
NUM, SIZE = 30, 120
TEMPLATES = np.append(np.arange(10), RNG.integers(0, 10, NUM - 10)) * 7 + 3
MEDIA = RNG.integers(0, 3, NUM)
MARKS = TEMPLATE + RNG.uniform(-2, 6, (NUM, 5, 2)).round(2)
SCORES = RNG.uniform(0.5, 1, NUM).round(4)
IMAGES = RNG.integers(0, 256, (NUM, SIZE, SIZE, 3), dtype=np.uint8)
PAIRS = np.array([(a, b) for a in np.unique(TEMPLATES) for b in np.unique(TEMPLATES) if a < b])
LABELS = RNG.integers(0, 2, len(PAIRS))


def write(root, *, prefix="ijbc", has_searches=True):
    meta = root / "meta"
    meta.mkdir(parents=True)
    (root / "loose_crop").mkdir()
    faces, marks = [], []
    for i in range(NUM):
        (root / "loose_crop" / f"{i + 1}.jpg").write_bytes(encode(IMAGES[i]))
        faces.append(f"{i + 1}.jpg {TEMPLATES[i]} {MEDIA[i]}\n")
        points = " ".join(str(value) for value in MARKS[i].ravel())
        marks.append(f"{i + 1}.jpg {points} {SCORES[i]}\n")
    pairs = (f"{a} {b} {label}\n" for (a, b), label in zip(PAIRS, LABELS, strict=True))
    (meta / f"{prefix}_face_tid_mid.txt").write_text("".join(faces))
    (meta / f"{prefix}_name_5pts_score.txt").write_text("".join(marks))
    (meta / f"{prefix}_template_pair_label.txt").write_text("".join(pairs))
    if has_searches:
        listed = {"gallery_G1": (0, 2), "gallery_G2": (3, 4), "probe_mixed": (5, 9)}
        ids = np.unique(TEMPLATES)
        for name, (first, last) in listed.items():
            rows = [f"{ids[i]},{i % 5},{i}.jpg\n" for i in range(first, last + 1)] * 2
            lines = ["TEMPLATE_ID,SUBJECT_ID,FILENAME\n", *rows]
            (meta / f"{prefix}_1N_{name}.csv").write_text("".join(lines))
    return root


def reference(recognizer, *, flip=True, norms=True, scores=True):
    """Fuse templates as insightface's script does, one loop each."""
    faces = []
    for image, marks, score in zip(IMAGES, MARKS.astype(np.float32), SCORES, strict=True):
        face = resize_linear(align(image, marks), recognizer.image_size, recognizer.image_size)
        row = recognizer(face[None])[0] + flip * recognizer(face[None, :, ::-1])[0]
        row = row if norms else row / np.linalg.norm(row)
        faces.append(row * (score if scores else 1))
    fused = {}
    for template in np.unique(TEMPLATES):
        media = []
        for medium in np.unique(MEDIA[template == TEMPLATES]):
            own = (template == TEMPLATES) & (medium == MEDIA)
            media.append(np.mean([faces[i] for i in np.flatnonzero(own)], axis=0))
        total = np.sum(media, axis=0)
        fused[template] = total / np.linalg.norm(total)
    return fused


FLAGS = {
    "--no-flip": {"flip": False},
    "--no-norms": {"norms": False},
    "--no-detector-scores": {"scores": False},
}


@pytest.mark.parametrize("flag", [None, *FLAGS])
def test_the_figures_are_those_of_the_published_protocol(tmp_path, flag, capsys):
    root, model = write(tmp_path / "IJBC"), tiny.write(tmp_path / "tiny.onnx")
    words = ["ijb", root, "--model", model, "--out", tmp_path / "out", "--batch-size", 4]
    assert main([*map(str, words), *([flag] if flag else [])]) == 0
    told = json.loads((tmp_path / "out" / "ijb.json").read_text())
    fused = reference(OnnxRecognizer(model), **FLAGS.get(flag, {}))
    cosines = np.array([fused[a] @ fused[b] for a, b in PAIRS])
    genuine, impostor = cosines[LABELS == 1], cosines[LABELS == 0]
    verified = told["verification"]
    limit = np.sort(impostor)[-len(impostor) // 10 - 1]
    allowed = int(0.1 * len(impostor))
    limit = np.sort(impostor)[-allowed - 1]
    assert verified["tar_at_far"]["1e-01"] == pytest.approx(np.mean(genuine > limit))
    assert verified["tar_at_far"]["1e-06"] is None
    gap = (genuine.mean() - impostor.mean()) ** 2 / (genuine.var() + impostor.var())
    assert verified["fisher_ratio"] == pytest.approx(gap, rel=1e-3)
    ids = np.unique(TEMPLATES)
    for name, gallery in {"G1": (0, 1, 2), "G2": (3, 4)}.items():
        mates = [i for i in range(5, 10) if i % 5 in gallery]
        scores = {i: [fused[ids[i]] @ fused[ids[j]] for j in gallery] for i in mates}
        first = np.mean([gallery[int(np.argmax(row))] == i % 5 for i, row in scores.items()])
        assert told["identification"][name]["rank_rates"]["1"] == pytest.approx(first)
        assert told["identification"][name]["num_mated"] == len(mates)
        assert told["identification"][name]["num_unmated"] == 5 - len(mates)
    assert (told["benchmark"], told["num_faces"], told["num_templates"]) == ("ijbc", NUM, 10)
    assert "1:N  gallery G2" in capsys.readouterr().out


def test_ijb_b_without_the_lists_of_1_to_n(tmp_path, capsys):
    root = write(tmp_path / "IJBB", prefix="ijbb", has_searches=False)
    model = tiny.write(tmp_path / "tiny.onnx")
    assert main(["ijb", str(root), "--model", str(model), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "ijb.json").read_text())["identification"] is None
    assert "1:1 only" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1, 7, NUM])
def test_sums_of_parts_give_the_templates_of_all(size):
    rows = RNG.standard_normal((NUM, 6))
    sums = TemplateSums(TEMPLATES, MEDIA)
    for start in range(0, NUM, size):
        sums.add(start, rows[start : start + size])
    whole = template_embeddings(rows, TEMPLATES, MEDIA)
    np.testing.assert_array_equal(sums.templates().ids, whole.ids)
    np.testing.assert_allclose(sums.templates().embeddings, whole.embeddings, atol=1e-14)


def test_sums_refuse_what_does_not_fit():
    sums = TemplateSums(TEMPLATES, MEDIA)
    with pytest.raises(InputError, match="for 2 ids from 28 on"):
        sums.add(NUM - 2, np.ones((3, 4)))
    with pytest.raises(InputError, match="templates"):
        sums.templates()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "ijbc_face_tid_mid.txt",
            None,
            "holds no meta/*_face_tid_mid.txt; give the folder of IJB-B",
        ),
        ("ijbc_face_tid_mid.txt", "1.jpg 1\n", "line 1 is not a name and 2 numbers"),
        ("ijbc_name_5pts_score.txt", "1.jpg 1 2 3\n", "line 1 is not a name and 11 numbers"),
        (
            "ijbc_name_5pts_score.txt",
            "9.jpg" + " 1" * 11 + "\n",
            "from line 1 on they are not the same",
        ),
        ("ijbc_template_pair_label.txt", "3 10 1\n3 x 0\n", "a line of 1 to 2 is not 'template"),
        ("ijbc_template_pair_label.txt", "3 10 1\n3 17 2\n", "with the label 0 or 1"),
        ("ijbc_template_pair_label.txt", "3 10 1\n3 11 0\n", "have no template, the first is 11"),
        ("ijbc_1N_gallery_G1.csv", "a,b\n3,x\n", "line 2 does not start with template,subject"),
        ("ijbc_1N_gallery_G1.csv", "a,b\n4,1\n", "gallery G1: 1 templates have no face"),
        ("ijbc_1N_probe_mixed.csv", "a,b\n3,1\n3,2\n", "template 3 is of subject 2 here and of 1"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, change, message, capsys):
    root, model = write(tmp_path / "IJBC"), tiny.write(tmp_path / "tiny.onnx")
    path = root / "meta" / name
    path.unlink() if change is None else path.write_text(change)
    assert main(["ijb", str(root), "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.splitlines()[-1].startswith("hyperface: error: ")

"""``runs.plan``, ``runs.bounds`` and ``runs.report`` from Python."""

import pytest

from hyperface_jax import runs


def test_a_plan_is_plain_values_and_a_command():
    result = runs.plan(runs.Plan(num_ids=1_000_000, dim=512, devices="v5e:256"))
    assert result.path is None
    assert result.summary["command"] == (
        "hyperface pack --num-ids 1000000 --out run --dim 512 --steps 200 --coarse-steps 160 "
        "--distributed yes"
    )
    assert result.summary["machine"]["num_devices"] == 256
    assert result.summary["command"] in result.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_ids": 1}, "`num_ids=1`: must be at least 2"),
        ({"steps": 0}, "`steps=0`: must be at least 1"),
        ({"batch_size": 64, "method": "annealed"}, "`batch_size=64`"),
        ({"devices": "abacus:4"}, "unknown kind"),
    ],
)
def test_a_plan_names_what_it_cannot_use(changes, said):
    settings = {"num_ids": 1000, "dim": 16, "devices": "h100:1"} | changes
    with pytest.raises(runs.InputError) as error:
        runs.plan(runs.Plan(**settings))
    assert said in str(error.value)


def test_bounds_tell_bound_and_code():
    result = runs.bounds(runs.Bounds(num_ids=24, dim=24, verify=True))
    assert result.summary["best_known"] == pytest.approx(-1 / 23)
    assert result.summary["lower_bound"] <= result.summary["verified"]["max_cosine"] + 1e-9
    assert "construction:" in result.text
    with pytest.raises(runs.InputError, match="`num_ids=1`"):
        runs.bounds(runs.Bounds(num_ids=1, dim=3))


def test_a_report_is_written_again(tmp_path):
    packed = runs.pack(runs.Pack(num_ids=12, dim=3, steps=20, out=tmp_path / "run"))
    page = tmp_path / "run" / "report.html"
    page.unlink()
    result = runs.report(runs.Report(directory=tmp_path / "run"))
    assert result.path == page
    assert page.exists()
    assert result.summary == packed.summary
    with pytest.raises(runs.InputError):
        runs.report(runs.Report(directory=tmp_path / "nothing"))

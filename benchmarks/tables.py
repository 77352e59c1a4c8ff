"""Write the tables of README and docs from the JSON results, and the pictures beside them.

    python -m benchmarks.tables [--check]

Every table stands between ``<!-- table:NAME -->`` and ``<!-- end:NAME -->``. With ``--check`` nothing
is written and the exit code says whether the documents agree with the results.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from statistics import fmean as mean
from typing import Any

from benchmarks.closed_loop import difference, drawn_arms, table_of
from benchmarks.closed_loop import parts as closed_loop_parts
from benchmarks.common import PICTURES, ROOT, read_result
from benchmarks.drawings import DRAWINGS, recommended

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def main() -> int:
    """Fill in the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    tables = {
        name: f"{table(figures)}\n\n{_source(name, benchmark, figures)}"
        for name, (benchmark, table) in TABLES.items()
        if (figures := read_result(benchmark))
    }
    stale = [path for path in DOCUMENTS if _filled(path.read_text(), tables) != path.read_text()]
    if check:
        print(*(f"{path} does not agree with the results" for path in stale), sep="\n")
        return int(bool(stale))
    for path in stale:
        path.write_text(_filled(path.read_text(), tables))
    PICTURES.mkdir(parents=True, exist_ok=True)
    for benchmark, draw in DRAWINGS.items():
        if figures := read_result(benchmark):
            draw(figures).savefig(PICTURES / f"{benchmark}.png", dpi=130)
    return 0


def _filled(text: str, tables: dict[str, str]) -> str:
    for name, table in tables.items():
        text = _replaced(text, name, table)
    return text


def _replaced(text: str, name: str, table: str) -> str:
    start, end = f"<!-- table:{name} -->", f"<!-- end:{name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{start}\n{table}\n{end}", text)


def _source(table: str, benchmark: str, figures: dict[str, Any]) -> str:
    part = table.removeprefix(f"{benchmark}_")
    about = figures.get("about_parts", {}).get(part, figures["about"])
    devices = _devices(table, figures) if "arms" in figures else [about["device"]]
    return (
        f"*{' and '.join(devices)}, jax {about['versions']['jax']}, {about['date']}; "
        f"`python -m benchmarks.{MODULES.get(benchmark, benchmark)}`.*"
    )


def _devices(table: str, figures: dict[str, Any]) -> list[str]:
    """Return the devices of the arms of a table of the study."""
    part = "packing" if table == "gains" else table.removeprefix("closed_loop_")
    arms = figures["arms"]
    names = [entry.arm.name for entry in closed_loop_parts().get(part, [])] or list(arms)
    return sorted({run["device"] for name in names for run in arms.get(name, {}).values()})


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rivals(methods: str, figures: dict[str, Any]) -> str:
    """Max cosine of every method on every shape without a gallery.

    Args:
        methods: "methods", at equal wall time, or "methods_at_equal_flops".
        figures: From ``benchmarks.rivals``.
    """
    shapes = [shape for shape in figures["shapes"] if methods in shape]
    found = [{m["name"]: m["max_cosine"] for m in shape[methods]} for shape in shapes]
    header = ["method", *(_rivals_column(shape, methods) for shape in shapes)]
    rows = [["*random start*", *(f"{s['start']:.4f}" for s in shapes)]]
    for name in dict.fromkeys(name for values in found for name in values):
        cells = [_bold(v.get(name), v.get(name) == min(v.values())) for v in found]
        rows.append([name, *cells])
    rows.append(
        ["*lower bound (no packing can beat it)*", *(f"{s['lower_bound']:.4f}" for s in shapes)]
    )
    return _table(header, rows)


def _rivals_column(shape: dict[str, Any], methods: str) -> str:
    is_timed = methods == "methods"
    budget = f"{shape['wall_seconds']:.0f} s" if is_timed else f"{shape['sweeps']} sweeps"
    return f"n={shape['n']}, d={shape['d']}, {budget}"


def rivals_manifold(figures: dict[str, Any]) -> str:
    """Both axes and the objective of every method near a real manifold, for both budgets."""
    shape = figures["manifold"]
    budgets = {"methods": "wall_seconds", "methods_at_equal_flops": "sweeps"}
    units = {"wall_seconds": "s", "sweeps": "sweeps"}
    done = {methods: size for methods, size in budgets.items() if methods in shape}
    header = ["method"]
    for size in done.values():
        within = f"{shape[size]:.0f} {units[size]}"
        header += [f"max cosine, {within}", f"to gallery, {within}", f"objective, {within}"]
    found = [{m["name"]: m for m in shape[methods]} for methods in done]
    rows = [["*start*", *_judged(shape["start_figures"]) * len(found)]] if found else []
    for name in dict.fromkeys(name for methods in found for name in methods):
        cells = [_judged(methods[name], methods.values()) for methods in found]
        rows.append([name, *itertools.chain(*cells)])
    return _table(header, rows)


def _judged(row: dict[str, Any], rows: Iterable[dict[str, Any]] = ()) -> list[str]:
    best = min((other["objective"] for other in rows), default=None)
    shown = [f"{row['max_cosine']:.3f}", _near(row), f"{row['objective']:.3f}"]
    return [*shown[:2], f"**{shown[2]}**" if row["objective"] == best else shown[2]]


def rivals_costs(figures: dict[str, Any]) -> str:
    """What a gradient costs every method."""
    rows = [
        [r["name"], f"{r['forward']:g}", f"{r['backward']:g}", r["reason"]]
        for r in figures["costs"]
    ]
    return _table(["method", "forward, n²d", "backward, n²d", "why"], rows)


def milestones(figures: dict[str, Any]) -> str:
    """Max cosine after a number of sweeps."""
    rows = [
        [
            f"{r['n']}, {r['d']}",
            str(r["sweeps"]),
            f"{r['max_cosine']:.5f}",
            f"{r['lower_bound']:.5f}",
            f"{r['seconds_with_compilation']:.0f}",
        ]
        for r in figures["rows"]
    ]
    return _table(["n, d", "sweeps", "max cosine", "lower bound", "seconds"], rows)


def api_names(figures: dict[str, Any]) -> str:
    """Names that a user must know for each task."""
    rows = [
        [r["task"], "" if r["before"] is None else str(r["before"]), str(r["after"])]
        for r in figures["rows"]
    ]
    return _table(["task", "names before `hf.run`", "names now"], rows)


def pairwise(figures: dict[str, Any]) -> str:
    """Rate of the value-and-force sweep."""
    rows = [
        [
            f"{r['n']}, {r['d']}",
            f"{r['product_gflops']:.0f}",
            f"{r['value_and_force_gflops']:.0f}",
            f"{100 * r['share_of_product_rate']:.0f} %",
            f"{r['temporary_mib']:.0f}",
        ]
        for r in figures["rows"]
    ]
    header = [
        "n, d",
        "matrix product, GFLOP/s",
        "value and force, GFLOP/s (of 4n²d)",
        "share",
        "temporary MiB",
    ]
    return _table(header, rows)


def ijb(figures: dict[str, Any]) -> str:
    """Time and memory of the protocol of IJB-C, without the recognizer."""
    rows = [
        [
            f"{r['num_faces']:,}, {r['num_templates']:,}, {r['num_pairs']:,}, {r['dim']}",
            *(f"{r[f'{part}_cpu_seconds']:.0f}" for part in ("read", "fuse", "score")),
            f"{r['peak_mib']:.0f}",
        ]
        for r in figures["rows"]
    ]
    header = [
        "faces, templates, pairs, dimension",
        "reading, CPU seconds",
        "fusing, CPU seconds",
        "1:1 and 1:N, CPU seconds",
        "memory, MiB",
    ]
    return _table(header, rows)


def leakage(figures: dict[str, Any]) -> str:
    """Rate of the search for similar pairs."""
    rows = [
        [
            f"{r['n']:,}, {r['m']:,}, {r['d']}",
            f"{r['search_seconds']:.0f}",
            f"{r['search_gflops']:.0f}",
            f"{100 * r['share_of_product_rate']:.0f} %",
            f"{r['peak_mib']:.0f}",
            f"{r['files_mib']:.0f}",
        ]
        for r in figures["rows"]
    ]
    header = [
        "n, m, d",
        "seconds",
        "search, GFLOP/s (of 2nmd)",
        "share of the product rate",
        "memory, MiB",
        "files, MiB",
    ]
    return _table(header, rows)


def frontier(figures: dict[str, Any]) -> str:
    """Separation and nearness for every alpha, and for the paper's method."""
    rows = [["start", "", f"{figures['start']['max_cosine']:.3f}", _near(figures["start"])]]
    for r in figures["annealed"]:
        rows.append(["annealed", f"{r['alpha']:g}", f"{r['max_cosine']:.3f}", _near(r)])
    best = min(figures["paper"], key=lambda r: r["max_cosine"])
    label = f"Algorithm 1, {figures['paper_steps']} sweeps, lr {best['learning_rate']:g}"
    rows.append([label, f"{best['alpha']:g}", f"{best['max_cosine']:.3f}", _near(best)])
    return _table(["method", "alpha", "max cosine", "mean nearest-gallery cosine"], rows)


def choosing_alpha(figures: dict[str, Any]) -> str:
    """What alpha and neighbors do to identities and to their faces."""
    rows = [["gallery rows", "", *_identities(figures["rows"], ["", ""])]]
    for i, r in enumerate(figures["points"]):
        near = [f"{r[name]:.3f}" for name in ("nearness", "gallery_mean_cosine")]
        alpha = f"**{r['alpha']:g}**" if i == recommended(figures) else f"{r['alpha']:g}"
        rows.append([alpha, str(r["neighbors"]), *_identities(r, near)])
    header = ["alpha", "neighbors", "nearest, embeddings", "to the span", "to the nearest row"]
    told = (
        f"Gallery rows to the span of four others: {figures['gallery_nearness']:.3f}; "
        f"at half that angle, which the rule asks for: {figures['needed_nearness']:.3f}."
    )
    return _table([*header, "nearest, faces", "face to target"], rows) + f"\n\n{told}"


def _identities(row: dict[str, Any], near: list[str]) -> list[str]:
    names = ("mean_nearest_cosine", "nearest_after_mean", "target_cosine")
    nearest, faces, target = (f"{row[name]:.3f}" for name in names)
    return [nearest, *near, faces, target]


def codes(figures: dict[str, Any]) -> str:
    """What is proven, known and reached for n and d."""
    rows = [_code_row(r) for r in figures["cells"]]
    header = ["n", "d", "lower bound", "best construction", "from a uniform start", "code, refined"]
    return _table(header, rows)


def _code_row(row: dict[str, Any]) -> list[str]:
    reached = [row[name]["max_cosine"] if name in row else None for name in ("uniform", "refined")]
    values = [row["best_known"], *reached]
    least = min(value for value in values if value is not None)
    shown = [_bold(value, value is not None and value <= least + 1e-6) for value in values]
    return [f"{row['n']:,}", str(row["d"]), f"{row['lower_bound']:.4f}", *shown]


def _bold(value: float | None, is_best: bool) -> str:
    if value is None:
        return ""
    return f"**{value:.4f}**" if is_best else f"{value:.4f}"


def code_names(figures: dict[str, Any]) -> str:
    """Which code is the best known one, and how its max cosine was checked."""
    checks = {"words": "all words", "pairs": "all pairs", None: "its proof alone"}
    rows = [
        [f"{r['n']:,}", str(r["d"]), r["best_known_name"], checks[r["verified_by"]]]
        for r in figures["cells"]
    ]
    return _table(["n", "d", "code", "checked by"], rows)


def code_words(figures: dict[str, Any]) -> str:
    """What gradient steps and a closed form make of the words of one code."""
    rows = [[r["name"], f"{r['max_cosine']:.5f}"] for r in figures.get("words", [])]
    return _table(["10,000 points in 512 dimensions", "max cosine"], rows)


def codes_near_a_gallery(figures: dict[str, Any]) -> str:
    """Starts from codes near the text manifold."""
    names = ("start_gallery_mean_cosine", "max_cosine", "gallery_mean_cosine", "objective")
    rows = [
        [r["start"], *(f"{r[name]['mean']:.4f} ± {r[name]['error']:.4f}" for name in names)]
        for r in figures["gallery"]
    ]
    return _table(["start", "start to gallery", "max cosine", "to gallery", "objective"], rows)


def _near(row: dict[str, Any]) -> str:
    return f"{row['gallery_mean_cosine']:.3f}"


def small_codes(figures: dict[str, Any]) -> str:
    """Share of the records reached."""
    rows = [
        [f"{float(name):g}", f"{100 * early:.0f} %", f"{100 * share:.0f} %"]
        for (name, share), early in zip(
            figures["shares"].items(), figures["shares_early"].values(), strict=True
        )
    ]
    rows_in_words = f"of {len(figures['rows'])} records (n <= 700, d <= 16)"
    header = ["within", f"{rows_in_words}, 10 s each", f"{figures['seconds_per_row']:g} s each"]
    missed = [row for row in figures["rows"] if row["excess"] > 1e-3]
    named = ", ".join(f"({row['n']}, {row['d']})" for row in missed)
    better = [
        f"({row['n']}, {row['d']}) by {-row['excess']:.1e}"
        for row in figures["rows"]
        if row["excess"] < -1e-6
    ]
    built = sum(row["found_by"].startswith("construction") for row in figures["rows"])
    told = [
        f"Farther than 1e-3 from the record: {named}.",
        f"Better than the record: {', '.join(better)}." if better else "",
        f"In {built} rows the best construction was not improved, or only polished.",
    ]
    return "\n\n".join([_table(header, rows), *filter(None, told)])


def ablations(figures: dict[str, Any]) -> str:
    """Max cosine of every variant."""
    rows = [[r["variant"], str(r["sweeps"]), f"{r['mean']:.5f}"] for r in figures["rows"]]
    return _table(["variant", "sweeps", "max cosine"], rows)


def keep_out(figures: dict[str, Any]) -> str:
    """What became of the keep-out rows."""
    row = figures["keep_out"]
    return _table(
        ["", "violations", "closest approach"],
        [
            ["start", str(row["violations_at_start"]), ""],
            ["after packing and repair", str(row["violations"]), f"{row['closest_approach']:.4f}"],
        ],
    )


def million(figures: dict[str, Any]) -> str:
    """The one run of a million identities, before and after."""
    summary = figures["summary"]
    header = ["", "max cosine", "of so many rows to all others"]
    start, end = summary["initial_max_cosine"], summary["max_cosine"]
    rows = [
        ["random start", f"{start:.4f}", f"{summary['initial_max_cosine_rows']:,}"],
        ["result", f"{end:.4f}", f"{summary['max_cosine_rows']:,}"],
        ["*lower bound*", f"{summary['lower_bound']:.4f}", ""],
    ]
    took = (
        f"{figures['wall_seconds'] / 60:.0f} minutes in {figures['num_calls']} calls (a stopped run "
        f"goes on), at most {figures['max_rss_gib']:.2f} GiB."
    )
    return f"{_table(header, rows)}\n\n{took}"


def tpu_aot(figures: dict[str, Any]) -> str:
    """Memory, traffic and modeled time of a step compiled for TPU slices."""
    rows = [
        [
            r["slice"],
            f"{r['n']:,}",
            r["precision"],
            f"{r['memory_gib']:.2f}",
            f"{r['hbm_over_ideal']:.2f}",
            f"{max(r['modeled_seconds'].values()):.3g}",
            r["bound_by"],
        ]
        for r in figures["rows"]
    ]
    header = [
        "slice",
        "n",
        "products",
        "GiB a device",
        "HBM bytes / ideal",
        "modeled s",
        "bound by",
    ]
    return _table(header, rows)


def scaling(figures: dict[str, Any]) -> str:
    """FLOPs and memory of a device against those on one device."""
    rows = [
        [
            r["method"],
            r["scaling"],
            str(r["num_devices"]),
            f"{r['flops']:.2f}",
            f"{r['memory']:.2f}",
        ]
        for r in figures["ratios"]
        if r["num_devices"] > 1
    ]
    return _table(["method", "scaling", "devices", "FLOPs a device", "memory a device"], rows)


def precision(figures: dict[str, Any]) -> str:
    """Max cosine by the share of steps with bfloat16 products."""
    rows = [[f"{100 * r['coarse_share']:.0f} %", f"{r['mean']:.5f}"] for r in figures["rows"]]
    return _table(["steps with bfloat16 products", "max cosine, mean of 3 seeds"], rows)


def three_pass(figures: dict[str, Any]) -> str:
    """Max cosines of runs that end with float32 products and with three-pass ones."""
    header = [
        "steps, and products before",
        "float32",
        "three passes",
        "difference",
        "of float32 in other tiles",
    ]
    rows = [
        [
            _last_steps(row),
            f"{row['float32']:.6f}",
            f"{row['bf16_x3']:.6f}",
            f"{row['difference']:+.1e}",
            f"{row['difference_again']:+.1e}",
        ]
        for row in figures["rows"]
    ]
    errors = {row["precision"]: row for row in figures["errors"]}
    largest = ", ".join(f"{name} {row['largest']:.1e}" for name, row in errors.items())
    return f"{_table(header, rows)}\n\nLargest error of a cosine: {largest}."


def _last_steps(row: dict[str, Any]) -> str:
    late, steps = row["late_steps"], row["steps"]
    if late == steps:
        return f"all {steps}"
    return f"the last {late} of {steps}, after {row['early_precision']}"


def gallery_search(figures: dict[str, Any]) -> str:
    """Both axes and the objective by the number of searches of the gallery in a whole run."""
    header = ["method", "searches", "max cosine", "to gallery", "objective"]
    rows = [
        [
            r["method"],
            str(r["searches"]),
            *(f"{r[name]:.4f}" for name in ("max_cosine", "gallery_mean_cosine", "objective")),
        ]
        for r in figures["rows"]
    ]
    return _table(header, rows)


def rehearsal(figures: dict[str, Any]) -> str:
    """What the rehearsal took, and what was planned for it and for the largest runs."""
    here = figures["plans"][0]
    measured = [
        _near_a_gallery(here),
        "measured",
        f"{figures['max_rss_gib']:.2f}, with the program",
        f"{figures['cpu_seconds'] / 60:.1f} min of a core",
        "",
    ]
    rows = [measured, *map(_planned, figures["plans"])]
    header = ["run", "", "GiB a device", "time", "of it searches of the gallery"]
    summary = figures["summary"]
    reached = (
        f"The rehearsal is about memory: {summary['steps']} steps are too few to spread the identities "
        f"(max cosine {summary['max_cosine']:.4f}, mean cosine to the nearest other identity "
        f"{summary['mean_nearest_cosine']:.4f}, to the gallery {summary['gallery_mean_cosine']:.4f})."
    )
    return f"{_table(header, rows)}\n\n{reached}"


def _near_a_gallery(plan: dict[str, Any]) -> str:
    return (
        f"{plan['num_ids']:,} x {plan['dim']} near {plan['gallery_rows']:,} rows, "
        f"{plan['num_steps']} steps, {plan['method']}"
    )


def _planned(plan: dict[str, Any]) -> list[str]:
    minutes, searching = plan["seconds"] / 60, plan["search_seconds"] / 60
    return [
        _near_a_gallery(plan),
        f"planned for {plan['devices']}",
        f"{plan['memory_gib']:.2f}",
        f"{minutes:.1f} min",
        f"{searching:.1f} min",
    ]


def checkpoints(figures: dict[str, Any]) -> str:
    """Seconds to save and to restore what one host of a job holds."""
    header = ["job", "GiB in all", "GiB a host", "save, s", "restore, s", "on fewer devices, s"]
    rows = []
    for job in figures["jobs"]:
        save, restore, fewer = (row["seconds"] for row in job["rows"])
        name = f"{job['num_ids']:,} x {figures['dim']} on {job['devices']}"
        sizes = f"{job['planned_gib']:.1f}", f"{job['gib']:.2f}"
        rows.append([name, *sizes, f"{save:.1f}", f"{restore:.1f}", f"{fewer:.1f}"])
    return _table(header, rows)


def training(figures: dict[str, Any]) -> str:
    """Training steps against the same network in PyTorch."""
    header = ["network", "pixels", "batch", "JAX, images/s", "PyTorch, images/s", "ratio"]
    rows = [
        [
            row["network"],
            str(row["image_size"]),
            str(row["batch_size"]),
            f"{row['jax_images_per_second']:.1f}",
            f"{row['torch_images_per_second']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in figures["rows"]
    ]
    return _table(header, rows)


def class_norms(figures: dict[str, Any]) -> str:
    """What the length of the class weights at the start does to early training."""
    epochs = range(1, 1 + len(figures["rows"][0]["losses"]))
    header = ["class weights start at", "figure", *(f"epoch {epoch}" for epoch in epochs)]
    rows = []
    for norm, start in ((1.0, "length 1 (AdaFace)"), (None, "N(0, 0.01^2) (insightface)")):
        runs = [row for row in figures["rows"] if row["class_norm"] == norm]
        losses = (mean(values) for values in zip(*(row["losses"] for row in runs), strict=True))
        rates = (mean(values) for values in zip(*(row["eer"] for row in runs), strict=True))
        rows.append([start, "loss", *(f"{loss:.1f}" for loss in losses)])
        rows.append(["", "EER, %", *(f"{100 * rate:.1f}" for rate in rates)])
    return _table(header, rows)


def convolutions(figures: dict[str, Any]) -> str:
    """Every formulation of a convolution and its gradients, milliseconds."""
    rows = []
    for task in ("forward", "by_images", "by_kernel"):
        for name in figures["rows"][0][task]:
            times = [row[task] for row in figures["rows"]]
            cells = [_fastest(time, name) for time in times]
            rows.append([task.replace("_", " "), name.replace("_", " "), *cells])
    shapes = [(*row["shape"], row["stride"]) for row in figures["rows"]]
    titles = [f"{n} x {side}², {c} -> {d}, stride {s}" for n, side, c, d, s in shapes]
    return _table(["ms", "formulation", *titles], rows)


def _fastest(times: dict[str, float], name: str) -> str:
    ours = {key: value for key, value in times.items() if key != "torch"}
    cell = f"{times[name]:.1f}"
    return f"**{cell}**" if name in ours and times[name] == min(ours.values()) else cell


def closed_loop(part: str, figures: dict[str, Any]) -> str:
    """Every arm of a part, means with their standard errors."""
    columns = (
        ("seeds", "num_seeds", 1, 0),
        ("EER, %", "eer", 100, 2),
        ("gain, points", "gain", 100, 2),
        ("TAR at FAR 0.1 %, %", "tar_at_far_1e-3", 100, 1),
        ("TAR at FAR 0.01 %, %", "tar_at_far_1e-4", 100, 1),
        ("rank 1, %", "rank_1", 100, 1),
    )
    rows = table_of(part, figures)
    lines = [
        [row["name"], *(_estimate(row[name], scale, digits) for _, name, scale, digits in columns)]
        for row in rows
    ]
    return _table(["identities", *(title for title, *_ in columns)], lines)


def closed_loop_faces(figures: dict[str, Any]) -> str:
    """What is drawn of each arm that has figures of its own."""
    columns = (
        ("to the gallery", "gallery_cosine"),
        ("face to target", "target_cosine"),
        ("agreement within an identity", "within_cosine"),
        ("nearest, embeddings", "nearest_before"),
        ("nearest, faces", "nearest_after"),
    )
    rows = [
        [name, *(_estimate(row[key], 1, 3) for _, key in columns)]
        for name, row in drawn_arms(figures).items()
    ]
    return _table(["identities", *(title for title, _ in columns)], rows)


def closed_loop_sets(figures: dict[str, Any]) -> str:
    """The gain of the main arms in each circumstance."""
    presets = list(next(iter(figures["arms"]["unpacked"].values()))["sets"])
    rows = []
    names = ("packed", "paper", "through", "real", "farthest-real")
    for name in (name for name in names if name in figures["arms"]):
        gains = [_difference(figures, "unpacked", name, preset) for preset in presets]
        rows.append([f"{name}, against unpacked", *gains])
    gains = [_difference(figures, "real", "farthest-real", preset) for preset in presets]
    rows.append(["farthest-real, against real", *gains])
    return _table(["gain in EER, points", *presets], rows)


def closed_loop_differences(figures: dict[str, Any]) -> str:
    """Pairs of arms that answer a question, in the figures of easy pairs."""
    pairs = (
        ("unpacked", "packed"),
        ("paper", "packed"),
        ("real", "packed"),
        ("packed", "through"),
        ("unpacked", "through"),
        ("real", "farthest-real"),
        ("unpacked-short-start", "packed-short-start"),
        ("real-short-start", "farthest-real-short-start"),
    )
    columns = ("eer", "tar_at_far_1e-3", "rank_1")
    rows = [
        [
            f"{second}, against {first}",
            *(
                _estimate(difference(figures, first, second, figure=name), 100, 2)
                for name in columns
            ),
        ]
        for first, second in pairs
        if {first, second} <= figures["arms"].keys()
    ]
    return _table(["better by, points", "EER", "TAR at FAR 0.1 %", "rank 1"], rows)


def _difference(figures: dict[str, Any], first: str, second: str, preset: str) -> str:
    return _estimate(difference(figures, first, second, preset), 100, 2)


def gains(figures: dict[str, Any]) -> str:
    """What packing gains a recognizer, for the ways that the README names."""
    found = {row["name"]: row for row in table_of("packing", figures)}
    rows = [
        [label, _estimate(found[name]["eer"], 100, 2), _estimate(found[name]["gain"], 100, 2)]
        for name, label in _WAYS.items()
        if name in found
    ]
    return _table(["identities", "EER, %", "gain over unpacked ones, points"], rows)


_WAYS = {
    "unpacked": "unpacked",
    "packed": "packed near the span of 4 gallery rows, alpha 8",
    "paper": "packed by the paper's Algorithm 1, alpha 2",
    "through": "packed through the generator (`--through`)",
    "real": "real toy persons at random",
    "farthest-real": "real toy persons, the farthest apart of 6,000",
}


def _estimate(value: dict[str, Any] | int | None, scale: float, digits: int) -> str:
    if isinstance(value, int):
        return str(value)
    if value is None or value["mean"] is None:
        return ""
    mean = f"{scale * value['mean']:.{digits}f}"
    return mean if value["error"] is None else f"{mean} ± {scale * value['error']:.{digits}f}"


def demo(figures: dict[str, Any]) -> str:
    """Seconds of the stages of ``hyperface demo``, at two sizes."""
    quick, default = (figures["sizes"][name] for name in ("quick", "default"))
    rows = [
        [stage, f"{quick['stages'][stage]:.0f}", f"{default['stages'][stage]:.0f}"]
        for stage in quick["stages"]
    ]
    for name, key in (
        ("report, imports", "rest"),
        ("**all**", "total"),
        ("of all cores together", "cpu"),
    ):
        rows.append([name, f"{quick[key]:.0f}", f"{default[key]:.0f}"])
    return _table(["seconds", "`--quick`", "as it is"], rows)


def toy_models(figures: dict[str, Any]) -> str:
    """How good the shipped models are."""
    sets = figures["models"]["recognizer"]["benchmarks"]
    rows = [
        [f"F: verification, {name}, %", f"{100 * found['accuracy']:.2f}"]
        for name, found in sets.items()
    ]
    return _table(["F, on persons it has not seen", ""], rows)


def toy_generators(figures: dict[str, Any]) -> str:
    """How good the two generators are."""
    labels = {
        "real_pair_cosine": "two real images of a person, cosine",
        "real_target_cosine": "real image to its target, cosine",
        "drawn_target_cosine": "drawn image to its target, cosine",
        "drawn_from_one_cosine": "image drawn from one image to that one, cosine",
        "real_rank_1": "real image nearest to its own target of all, share",
        "drawn_rank_1": "drawn image nearest to its own target of all, share",
    }
    models = [figures["models"][name]["fidelity"] for name in ("parametric", "generator")]
    rows = [[label, *(f"{model[name]:.3f}" for model in models)] for name, label in labels.items()]
    return _table(["persons that it has not seen", "parametric", "diffusion"], rows)


def toy_traits(figures: dict[str, Any]) -> str:
    """How much of the variety of each trait the parametric generator draws."""
    rows = [
        [name.replace("_", " "), f"{found['spread']:.2f}", f"{found['r2']:.2f}"]
        for name, found in figures["models"]["parametric"]["traits"].items()
    ]
    return _table(
        ["trait", "spread, drawn / real", "share that passes through the embedding"], rows
    )


def synthesis(figures: dict[str, Any]) -> str:
    """What writing costs beside drawing."""
    rows = [
        [
            row["generator"],
            row["image_format"],
            f"{row['images_per_second']:.0f}",
            f"{100 * row['overhead']:.1f} %",
        ]
        for row in figures["overhead"]
    ]
    few, many = figures["memory"]
    memory = (
        f"Largest resident memory: {few['max_rss_mib']:.0f} MiB for {few['num_images']:,} images, "
        f"{many['max_rss_mib']:.0f} MiB for {many['num_images']:,}."
    )
    table = _table(["generator", "format", "images/s", "overhead"], rows)
    return f"{table}\n\n{memory}"


def tutorial_figures(figures: dict[str, Any]) -> str:
    """What the toy commands of the tutorial leave."""
    rows = [
        [r["stage"], r["what"], f"{r['value']:.3g}", f"± {r['tolerance']:g}"]
        for r in figures["toy"]
    ]
    return _table(["stage", "figure", "value", "tolerance of the test"], rows)


def tutorial_costs(figures: dict[str, Any]) -> str:
    """What the real commands of the tutorial are expected to cost."""
    rows = [[r["stage"], r["disc"], r["gpu_hours"], r["source"]] for r in figures["costs"]]
    return _table(["stage", "disc, at most", "GPU time", "source of the estimate"], rows)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "rivals": ("rivals", partial(rivals, "methods")),
    "rivals_flops": ("rivals", partial(rivals, "methods_at_equal_flops")),
    "rivals_manifold": ("rivals", rivals_manifold),
    "rivals_costs": ("rivals", rivals_costs),
    "api_names": ("api_names", api_names),
    "milestones": ("milestones", milestones),
    "pairwise": ("pairwise", pairwise),
    "leakage": ("leakage", leakage),
    "ijb": ("ijb", ijb),
    "codes": ("codes", codes),
    "code_names": ("codes", code_names),
    "code_words": ("codes", code_words),
    "codes_near_a_gallery": ("codes", codes_near_a_gallery),
    "frontier": ("gallery_frontier", frontier),
    "choosing_alpha": ("choosing_alpha", choosing_alpha),
    "small_codes": ("small_codes", small_codes),
    "ablations": ("ablations", ablations),
    "keep_out": ("gallery_frontier", keep_out),
    "million": ("million", million),
    "tpu_aot": ("tpu_aot", tpu_aot),
    "scaling": ("scaling", scaling),
    "precision": ("precision", precision),
    "three_pass": ("three_pass", three_pass),
    "three_pass_10000x512": ("three_pass_10000x512", three_pass),
    "gallery_search": ("gallery_search", gallery_search),
    "rehearsal": ("rehearsal", rehearsal),
    "checkpoints": ("checkpoints", checkpoints),
    "training": ("training", training),
    "class_norms": ("class_norms", class_norms),
    "convolutions": ("convolutions", convolutions),
    "synthesis": ("synthesis", synthesis),
    "toy_models": ("closed_loop", toy_models),
    "toy_generators": ("closed_loop", toy_generators),
    "toy_traits": ("closed_loop", toy_traits),
    "gains": ("closed_loop", gains),
    "closed_loop_faces": ("closed_loop", closed_loop_faces),
    "closed_loop_sets": ("closed_loop", closed_loop_sets),
    "closed_loop_differences": ("closed_loop", closed_loop_differences),
    "demo": ("demo", demo),
    "tutorial_figures": ("tutorial", tutorial_figures),
    "tutorial_costs": ("tutorial", tutorial_costs),
    **{
        f"closed_loop_{part}": ("closed_loop", partial(closed_loop, part))
        for part in closed_loop_parts()
    },
}
MODULES = {
    "milestones": "solvers",
    "precision": "rounding",
    "three_pass": "rounding",
    "three_pass_10000x512": "rounding",
}


if __name__ == "__main__":
    sys.exit(main())

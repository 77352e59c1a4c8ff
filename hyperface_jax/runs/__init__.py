"""The stages of the method, each a function from settings to a result.

A call such as ``runs.pack(runs.Pack(num_ids=1000, dim=128, out=Path("run")))`` can be resumed, needs no
terminal and prints nothing. A stage reads and writes files, and it combines folders that do not import
one another (packing, faces, synthesis, recognition, evaluation, reports). The command line only parses
and prints. Only :mod:`hyperface_jax.cli` and the benchmarks import this folder. A stage is loaded when
it is first used, because some stages need extras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hyperface_jax.lazy import load

if TYPE_CHECKING:
    from hyperface_jax.errors import InputError, Stopped
    from hyperface_jax.runs.aligning import Align, align
    from hyperface_jax.runs.alpha_frontier import Frontier, frontier
    from hyperface_jax.runs.bounding import Bounds, bounds
    from hyperface_jax.runs.comparing import Compare, compare
    from hyperface_jax.runs.demonstration.settings import Demo
    from hyperface_jax.runs.demonstration.stage import demo
    from hyperface_jax.runs.drawing import Faces, faces
    from hyperface_jax.runs.embedding import Embed, embed
    from hyperface_jax.runs.evaluation import Evaluate, evaluate
    from hyperface_jax.runs.exporting import Export, export
    from hyperface_jax.runs.ijb_protocol import Ijb, ijb
    from hyperface_jax.runs.leakage_search import Leakage, leakage
    from hyperface_jax.runs.packing.settings import Pack
    from hyperface_jax.runs.packing.stage import pack
    from hyperface_jax.runs.pairing import Pairs, pairs
    from hyperface_jax.runs.planning import Plan, plan
    from hyperface_jax.runs.reporting import Report, report
    from hyperface_jax.runs.support.result import Result
    from hyperface_jax.runs.support.watch import Watch, stop_on_signals
    from hyperface_jax.runs.synthesis.settings import Arc2FaceOptions, Synthesize
    from hyperface_jax.runs.synthesis.stage import synthesize
    from hyperface_jax.runs.training.settings import Train
    from hyperface_jax.runs.training.stage import train
    from hyperface_jax.runs.variety import Diversity, diversity


class _Home(NamedTuple):
    """Where a name is defined, and the extra that its module needs."""

    module: str
    extra: str = "cli"


_HOMES = {
    "InputError": _Home("errors"),
    "Stopped": _Home("errors"),
    "Result": _Home("runs.support.result"),
    "Watch": _Home("runs.support.watch"),
    "stop_on_signals": _Home("runs.support.watch"),
    "Align": _Home("runs.aligning", "recognition"),
    "align": _Home("runs.aligning", "recognition"),
    "Embed": _Home("runs.embedding", "recognition"),
    "embed": _Home("runs.embedding", "recognition"),
    "Faces": _Home("runs.drawing", "synthesis"),
    "faces": _Home("runs.drawing", "synthesis"),
    "Pack": _Home("runs.packing.settings"),
    "pack": _Home("runs.packing.stage"),
    "Frontier": _Home("runs.alpha_frontier"),
    "frontier": _Home("runs.alpha_frontier"),
    "Plan": _Home("runs.planning"),
    "plan": _Home("runs.planning"),
    "Bounds": _Home("runs.bounding"),
    "bounds": _Home("runs.bounding"),
    "Compare": _Home("runs.comparing"),
    "compare": _Home("runs.comparing"),
    "Report": _Home("runs.reporting"),
    "report": _Home("runs.reporting"),
    "Arc2FaceOptions": _Home("runs.synthesis.settings"),
    "Synthesize": _Home("runs.synthesis.settings"),
    "synthesize": _Home("runs.synthesis.stage", "synthesis"),
    "Evaluate": _Home("runs.evaluation"),
    "evaluate": _Home("runs.evaluation"),
    "Export": _Home("runs.exporting", "recognition,onnx"),
    "export": _Home("runs.exporting", "recognition,onnx"),
    "Ijb": _Home("runs.ijb_protocol", "recognition"),
    "ijb": _Home("runs.ijb_protocol", "recognition"),
    "Pairs": _Home("runs.pairing", "recognition"),
    "pairs": _Home("runs.pairing", "recognition"),
    "Leakage": _Home("runs.leakage_search"),
    "leakage": _Home("runs.leakage_search"),
    "Diversity": _Home("runs.variety"),
    "diversity": _Home("runs.variety"),
    "Train": _Home("runs.training.settings"),
    "train": _Home("runs.training.stage", "recognition"),
    "Demo": _Home("runs.demonstration.settings"),
    "demo": _Home("runs.demonstration.stage", "cli,recognition,synthesis"),
}

__all__ = [
    "Align",
    "Arc2FaceOptions",
    "Bounds",
    "Compare",
    "Demo",
    "Diversity",
    "Embed",
    "Evaluate",
    "Export",
    "Faces",
    "Frontier",
    "Ijb",
    "InputError",
    "Leakage",
    "Pack",
    "Pairs",
    "Plan",
    "Report",
    "Result",
    "Stopped",
    "Synthesize",
    "Train",
    "Watch",
    "align",
    "bounds",
    "compare",
    "demo",
    "diversity",
    "embed",
    "evaluate",
    "export",
    "faces",
    "frontier",
    "ijb",
    "leakage",
    "pack",
    "pairs",
    "plan",
    "report",
    "stop_on_signals",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    return load(name, f"hyperface_jax.{home.module}", home.extra)


def __dir__() -> list[str]:
    return __all__

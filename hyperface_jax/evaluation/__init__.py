"""Figures of embeddings: verification of pairs, templates, sets of persons, and leakage."""

from hyperface_jax.evaluation.all_pairs import AllPairs, all_pairs
from hyperface_jax.evaluation.leakage import Leakage, impostor_threshold, leakage
from hyperface_jax.evaluation.templates import (
    Identification,
    Templates,
    identify,
    pair_scores,
    template_embeddings,
    verify_templates,
)
from hyperface_jax.evaluation.verification import (
    Det,
    FoldTar,
    Roc,
    Separation,
    Verification,
    det_points,
    flip_fused,
    separation,
    unit_rows,
    verify,
    verify_scores,
)

__all__ = [
    "AllPairs",
    "Det",
    "FoldTar",
    "Identification",
    "Leakage",
    "Roc",
    "Separation",
    "Templates",
    "Verification",
    "all_pairs",
    "det_points",
    "flip_fused",
    "identify",
    "impostor_threshold",
    "leakage",
    "pair_scores",
    "separation",
    "template_embeddings",
    "unit_rows",
    "verify",
    "verify_scores",
    "verify_templates",
]

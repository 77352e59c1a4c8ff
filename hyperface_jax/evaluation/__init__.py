"""Figures of embeddings: verification of pairs, templates, sets of persons, leakage and diversity."""

from hyperface_jax.evaluation.exhaustive import AllPairs, all_pairs
from hyperface_jax.evaluation.leakage import Leakage, impostor_threshold, leakage
from hyperface_jax.evaluation.neighbors import (
    NearestPairs,
    Pairs,
    TargetMatch,
    nearest_pairs,
    target_match,
)
from hyperface_jax.evaluation.templates import (
    Identification,
    Templates,
    identify,
    pair_scores,
    template_embeddings,
    verify_templates,
)
from hyperface_jax.evaluation.variety import Diversity, diversity, vendi_score
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
    "Diversity",
    "FoldTar",
    "Identification",
    "Leakage",
    "NearestPairs",
    "Pairs",
    "Roc",
    "Separation",
    "TargetMatch",
    "Templates",
    "Verification",
    "all_pairs",
    "det_points",
    "diversity",
    "flip_fused",
    "identify",
    "impostor_threshold",
    "leakage",
    "nearest_pairs",
    "pair_scores",
    "separation",
    "target_match",
    "template_embeddings",
    "unit_rows",
    "vendi_score",
    "verify",
    "verify_scores",
    "verify_templates",
]

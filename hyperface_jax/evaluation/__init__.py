"""Figures of embeddings: verification of pairs, and templates."""

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
    "Det",
    "FoldTar",
    "Identification",
    "Roc",
    "Separation",
    "Templates",
    "Verification",
    "det_points",
    "flip_fused",
    "identify",
    "pair_scores",
    "separation",
    "template_embeddings",
    "unit_rows",
    "verify",
    "verify_scores",
    "verify_templates",
]

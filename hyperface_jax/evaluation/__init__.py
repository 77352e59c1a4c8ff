"""Evaluation of embeddings: verification of pairs and templates, nearest neighbors, diversity.

It works on arrays of embeddings and knows no images. It may import the layers up to ``packing``;
:mod:`hyperface_jax.faces` and the layers above it, such as :mod:`hyperface_jax.runs`, may import it.
"""

from hyperface_jax.evaluation.certificates import Certificate, certify
from hyperface_jax.evaluation.curves import Det, Roc, det_points
from hyperface_jax.evaluation.exhaustive import AllPairs, all_pairs
from hyperface_jax.evaluation.neighbors import (
    ClosestPairs,
    NearestPairs,
    TargetMatch,
    impostor_threshold,
    nearest_pairs,
    target_match,
)
from hyperface_jax.evaluation.templates import (
    Identification,
    Templates,
    TemplateSums,
    identify,
    pair_scores,
    template_embeddings,
    verify_templates,
)
from hyperface_jax.evaluation.variety import Diversity, diversity, vendi_score
from hyperface_jax.evaluation.verification import (
    FoldTar,
    Separation,
    Verification,
    flip_fused,
    separation,
    unit_rows,
    verify,
    verify_scores,
)

__all__ = [
    "AllPairs",
    "Certificate",
    "ClosestPairs",
    "Det",
    "Diversity",
    "FoldTar",
    "Identification",
    "NearestPairs",
    "Roc",
    "Separation",
    "TargetMatch",
    "TemplateSums",
    "Templates",
    "Verification",
    "all_pairs",
    "certify",
    "det_points",
    "diversity",
    "flip_fused",
    "identify",
    "impostor_threshold",
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

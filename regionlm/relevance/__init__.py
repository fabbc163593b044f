"""Explainability maps as functions of a token of the joint space."""

from regionlm.relevance.legrad import Budget, LeGrad, Score, default_score
from regionlm.relevance.query_map import MergedWeights

__all__ = ["Budget", "LeGrad", "MergedWeights", "Score", "default_score"]

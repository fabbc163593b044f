"""Explainability maps as functions of a token of the joint space."""

from regionlm.relevance.budget import Budget
from regionlm.relevance.chefer import CheferCam
from regionlm.relevance.gradcam import GradCam
from regionlm.relevance.legrad import LeGrad
from regionlm.relevance.methods import RELEVANCE, Relevance, make_relevance
from regionlm.relevance.query_map import MergedWeights
from regionlm.relevance.score import Score, ScoreName, default_score

__all__ = [
    "RELEVANCE",
    "Budget",
    "CheferCam",
    "GradCam",
    "LeGrad",
    "MergedWeights",
    "Relevance",
    "Score",
    "ScoreName",
    "default_score",
    "make_relevance",
]

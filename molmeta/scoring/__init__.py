"""Scoring: a model by name (or a learner, or a function) on a benchmark by name; what ``molmeta evaluate`` does."""

from molmeta.scoring.candidates import BASELINES, BundleModel, Candidate, load_candidate
from molmeta.scoring.protocols import PROTOCOLS, Question, question
from molmeta.scoring.run import evaluate

__all__ = ["BASELINES", "PROTOCOLS", "BundleModel", "Candidate", "Question", "evaluate", "load_candidate", "question"]

"""The Lightning module, the networks that it fits, and the weights that it keeps."""

from alphard.models.best_weights import BestWeights
from alphard.models.classifier import Classifier
from alphard.models.networks import MLP, Linear

__all__ = ["MLP", "BestWeights", "Classifier", "Linear"]

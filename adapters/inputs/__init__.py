"""Example inputs for a model that comes without any.

A guesser is a function ``model -> guesses``, the likeliest first; what a layer or an argument wants to be
given is data: `configs.BY_ARGUMENT`, `graphs.GRAPH_ARGUMENTS`, `layers.BY_LAYER`.
"""

from .configs import has_config, is_language_model, is_transformers_config, setting, vocabulary_of
from .guess import guess_inputs
from .making import Maker, arguments_of

__all__ = [
    "Maker",
    "arguments_of",
    "guess_inputs",
    "has_config",
    "is_language_model",
    "is_transformers_config",
    "setting",
    "vocabulary_of",
]

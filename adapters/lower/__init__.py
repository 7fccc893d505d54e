"""Macro calls, written as the simple calls they stand for.

One call of PyTorch may stand for a whole network: multi-head attention, a stack of recurrent layers.
No single rule describes it well. `LOWERINGS` maps such a callable to a function of the same arguments and
results; while a model is traced it runs in the callable's place, and what *it* calls is recorded.

Sizes are computed from shapes and arguments by plain arithmetic only, so that traced integers keep their
origin, and the assumptions of the original (heads x head size is the embedding width) become equations.
"""

from collections.abc import Callable

from ..calls import one_call
from ..losses import LOSSES
from ..rewrites import REWRITES
from .attention import ATTENTION, attention_scores, multi_head_attention_forward
from .homonyms import HOMONYMS, scatter_rows
from .recurrent import RECURRENT, gru_layer, lstm_layer, lstm_proj_layer, rnn_layer

LOWERINGS: dict[Callable, Callable] = {**REWRITES, **LOSSES, **ATTENTION, **RECURRENT, **HOMONYMS}
"""What runs, and is recorded, in place of each macro call; same arguments, same results."""

__all__ = [
    "LOWERINGS",
    "attention_scores",
    "gru_layer",
    "lstm_layer",
    "lstm_proj_layer",
    "multi_head_attention_forward",
    "one_call",
    "rnn_layer",
    "scatter_rows",
]

# Rules name these calls by this face, and so does what tells of them.
for _call in (attention_scores, gru_layer, lstm_layer, lstm_proj_layer, rnn_layer, scatter_rows):
    _call.__module__ = __name__

"""The rules meet the calls of a trace: which axes belong together."""

from .call_site import ByData
from .couple import couple
from .coupled import Beside, Coupling, Couplings, Place, Reading, Scaled
from .siblings import follow_attributes, follow_siblings, is_below

__all__ = [
    "Beside",
    "ByData",
    "Coupling",
    "Couplings",
    "Place",
    "Reading",
    "Scaled",
    "couple",
    "follow_attributes",
    "follow_siblings",
    "is_below",
]

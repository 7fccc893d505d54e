"""Why two layers are coupled, or are not, and what holds a layer back."""

from .listing import listing
from .reasons import because_of, held_by, hop_of
from .why import Explanation, explain

__all__ = ["Explanation", "because_of", "explain", "held_by", "hop_of", "listing"]

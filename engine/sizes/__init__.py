"""What must hold of sizes, and the sizes at which it does."""

from .checks import Check, Checks, Count
from .equations import AttributeKey, Equation, SizeOf, Sizes, key_of, size_of
from .multiples import Multiple, Multiples
from .solve import solve

__all__ = [
    "AttributeKey",
    "Check",
    "Checks",
    "Count",
    "Equation",
    "Multiple",
    "Multiples",
    "SizeOf",
    "Sizes",
    "key_of",
    "size_of",
    "solve",
]

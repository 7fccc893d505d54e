"""What must shrink together."""

from .deriving import Deriving, Literal, literal_of, told_by_rules
from .group import Group, Member, owner_of
from .groups import Groups
from .names import unknown_name
from .paths import shortest

__all__ = [
    "Deriving",
    "Group",
    "Groups",
    "Literal",
    "Member",
    "literal_of",
    "owner_of",
    "shortest",
    "told_by_rules",
    "unknown_name",
]

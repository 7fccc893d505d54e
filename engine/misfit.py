"""Raised while a rule is applied to a call that it does not describe; the call then counts as unknown."""


class Misfit(Exception):
    """The rule does not fit this call; the message says where the two differ."""

"""The ``.rules`` language: text in, frozen values out. Nothing here knows torch."""

from ..errors import did_you_mean, narrow, report
from .format import format_rules, format_statement
from .parser import parse
from .validate import validate

__all__ = ["did_you_mean", "format_rules", "format_statement", "narrow", "parse", "report", "validate"]

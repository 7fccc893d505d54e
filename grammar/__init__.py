"""The ``.rules`` language: text in, frozen values out. Nothing here knows torch."""

from .parser import parse
from .report import did_you_mean, narrow, report
from .validate import validate

__all__ = ["did_you_mean", "narrow", "parse", "report", "validate"]

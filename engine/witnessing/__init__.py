"""The model run at other sizes: whether it does there what its trace says."""

from .rerun import DoesOtherwise, check_pruned, check_tried, output_shapes, retracing
from .witness import Finding, findings, findings_at, heed, untrusted

__all__ = [
    "DoesOtherwise",
    "Finding",
    "check_pruned",
    "check_tried",
    "findings",
    "findings_at",
    "heed",
    "output_shapes",
    "retracing",
    "untrusted",
]

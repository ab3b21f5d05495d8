"""Read the usage object of every provider dialect into TokenUsage."""

from .extraction import locate_usage, plain
from .reading import TokenUsage, read_usage

__all__ = [
    "TokenUsage",
    "locate_usage",
    "plain",
    "read_usage",
]

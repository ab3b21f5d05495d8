"""Read the usage object of every provider dialect into TokenUsage, and the options of a request."""

from .extraction import locate_usage, plain
from .reading import TokenUsage, read_usage
from .request_options import read_cache_options, read_request_options

__all__ = [
    "TokenUsage",
    "locate_usage",
    "plain",
    "read_cache_options",
    "read_request_options",
    "read_usage",
]

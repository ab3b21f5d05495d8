"""Read the usage object of every provider dialect into TokenUsage, and the options of a request."""

from .details import is_count
from .extraction import locate_usage, plain
from .reading import TokenUsage, read_usage
from .request_options import (
    NAMED_TOOL,
    PRICE_AND_CACHE_FIELDS,
    STANDARD_SPEED,
    UNKNOWN_WINDOW,
    read_cache_options,
    read_request_options,
)

__all__ = [
    "NAMED_TOOL",
    "PRICE_AND_CACHE_FIELDS",
    "STANDARD_SPEED",
    "UNKNOWN_WINDOW",
    "TokenUsage",
    "is_count",
    "locate_usage",
    "plain",
    "read_cache_options",
    "read_request_options",
    "read_usage",
]

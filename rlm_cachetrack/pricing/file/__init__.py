"""Read, validate and compile the YAML pricing file."""

from .loader import read_pricing
from .rules import Bands, DiscountRule, PricingFile, Span

__all__ = [
    "Bands",
    "DiscountRule",
    "PricingFile",
    "Span",
    "read_pricing",
]

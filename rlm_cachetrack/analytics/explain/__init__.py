"""Explain cache misses: replay the stored calls of a run against the provider's published cache rules."""

from .cache_rules import CacheRule, Lifetime, cache_rules
from .report import VERDICTS, CacheAdvice, CacheExplanation, CallVerdict, Verdict, VerdictCount, explain_cache

__all__ = [
    "VERDICTS",
    "CacheAdvice",
    "CacheExplanation",
    "CacheRule",
    "CallVerdict",
    "Lifetime",
    "Verdict",
    "VerdictCount",
    "cache_rules",
    "explain_cache",
]

"""Explain cache misses: replay the stored calls of a run against the provider's published cache rules."""

from .cache_busts import BustSearch, BustWatch, FoundBusts, bust_words, find_busts
from .cache_rules import CacheRule, Lifetime, cache_rules
from .losses import CacheLoss, doubt_words, losses_of, merge_losses, sureness_words
from .report import (
    VERDICTS,
    Agreement,
    CacheAdvice,
    CacheExplanation,
    CallVerdict,
    Verdict,
    VerdictCount,
    explain_cache,
    hit_rate_words,
)

__all__ = [
    "VERDICTS",
    "Agreement",
    "BustSearch",
    "BustWatch",
    "CacheAdvice",
    "CacheExplanation",
    "CacheLoss",
    "CacheRule",
    "CallVerdict",
    "FoundBusts",
    "Lifetime",
    "Verdict",
    "VerdictCount",
    "bust_words",
    "cache_rules",
    "doubt_words",
    "explain_cache",
    "find_busts",
    "hit_rate_words",
    "losses_of",
    "merge_losses",
    "sureness_words",
]

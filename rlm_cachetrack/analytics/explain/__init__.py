"""Explain cache misses: replay the stored calls of a run against the provider's published cache rules."""

from .report import VERDICTS, CacheAdvice, CacheExplanation, CallVerdict, Verdict, VerdictCount, explain_cache

__all__ = ["VERDICTS", "CacheAdvice", "CacheExplanation", "CallVerdict", "Verdict", "VerdictCount", "explain_cache"]

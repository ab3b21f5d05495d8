"""Explain cache misses: replay the stored calls of a run against the provider's published cache rules."""

from .report import VERDICTS, CacheExplanation, CallVerdict, Verdict, explain_cache

__all__ = ["VERDICTS", "CacheExplanation", "CallVerdict", "Verdict", "explain_cache"]

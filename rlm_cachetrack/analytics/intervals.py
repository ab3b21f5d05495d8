"""Confidence intervals of means and of differences between means: Student's and Welch's. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance


def t_quantile(share: float, freedom: float) -> float:
    """Compute a quantile of Student's t distribution, within 1% from three degrees of freedom on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; exact for 1 and 2 degrees of freedom.
    """
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Compute the interval of ``mean(b) - mean(a)`` for samples whose variances may differ.

    Degrees of freedom are rounded down, so the interval is slightly too wide rather than too narrow.

    Source: B. L. Welch, Biometrika 34 (1947), 28-35.

    Returns:
        The bounds; None if a sample has fewer than two values.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    parts = variance(a) / len(a), variance(b) / len(b)
    error = sum(parts)
    difference = fmean(b) - fmean(a)
    if error == 0:
        return difference, difference
    freedom = error**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = t_quantile((1 + confidence) / 2, max(1, math.floor(freedom + 1e-9))) * math.sqrt(error)
    return difference - half, difference + half

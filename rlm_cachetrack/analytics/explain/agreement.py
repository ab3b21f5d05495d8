"""Count how often the provider's reason agrees with our own verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict

from rlm_cachetrack.formatting import Table

from .verdicts import Verdict  # the API of the dashboard reads the types of results at runtime

if TYPE_CHECKING:
    from .verdicts import JudgedCall

CACHE_HIT = "cache_hit"


class Agreement(TypedDict):
    """The calls with one combination of the provider's reason and our own verdict.

    ``provider_reason`` is ``cache_hit`` if the provider found no divergence. The reasons agree if they name the same
    cause: the same setting, or the same kind of part (the tools, or the rest of the prompt).
    """

    provider_reason: str
    own_verdict: Verdict
    agrees: bool
    calls: int


def count_agreement(judged: Iterable[JudgedCall]) -> Table[Agreement]:
    """Return the pairs of reasons with their calls, the most frequent first."""
    counts = Counter(
        [
            (CACHE_HIT if each.reason is None else each.reason.name, each.own_verdict or each.verdict, each.agrees)
            for each in judged
            if each.agrees is not None
        ]
    )
    found: list[Agreement] = [
        {"provider_reason": reason, "own_verdict": verdict, "agrees": bool(agrees), "calls": calls}
        for (reason, verdict, agrees), calls in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    return Table(found, Agreement.__annotations__)


def agreement_rate(pairs: Sequence[Agreement]) -> float | None:
    """Return the share (0-1) of the diagnosed calls whose reasons agree; None if no call was diagnosed."""
    calls = sum(each["calls"] for each in pairs)
    return sum(each["calls"] for each in pairs if each["agrees"]) / calls if calls else None

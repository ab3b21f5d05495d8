"""Explain a run: a cache miss reason for each call, the achievable hit rate, and recommendations.

It needs only stored calls: fingerprints show which part of a prompt differs from an earlier one, times show which
entries had expired, and the providers' rules (``cache_rules.yaml``) show what could be read. No prompt is stored, so
token counts of parts of prompts are estimates, and each verdict has a confidence.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from rlm_cachetrack.fingerprint import decode_run
from rlm_cachetrack.formatting import Sheet, Table, hit_rates
from rlm_cachetrack.records import shifted

from .advice import CacheAdvice, advise, usd_lost
from .agreement import Agreement, agreement_rate, count_agreement
from .cache_rules import cache_rule
from .chains import Call, chain_calls
from .divergence import segment_words
from .token_counts import count_tokens
from .verdicts import VERDICTS, JudgedCall, Verdict, judge

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "VERDICTS",
    "Agreement",
    "CacheAdvice",
    "CacheExplanation",
    "CallVerdict",
    "Verdict",
    "VerdictCount",
    "explain_cache",
    "explain_rows",
]

_MOST_CALLS = 50_000
_NEIGHBOURS = 20
_OF_SAME_QUERY = 10
_NEWEST_CALLS = 20_000
"""The number of calls of other runs that are looked at to find runs with the same models."""
_LEAST_OF_NEIGHBOURS, _MOST_OF_NEIGHBOURS = 2_000, 5_000
_BEFORE = 1_000
"""The number of earlier calls that are read, too, because they may have filled the cache."""
_LEAST_LOOK_BACK = timedelta(hours=1)


class CallVerdict(TypedDict):
    """One call and its cache miss reason.

    ``tokens_lost`` estimates the further tokens that could have been read without the cause, and ``usd_lost`` is their
    extra cost at the call's own prices, None if it is unpriced. ``ceiling_tokens`` is the number of tokens that the
    provider's rules allowed to be read of the prompt as it was sent. ``confidence`` is 0-1. ``change`` (``added``,
    ``edited``, ``reordered``, ``shortened``), ``segment`` and ``segment_number`` (from 0) are where the prompt differs
    from that of ``compared_with``, ``gap_s`` seconds earlier; ``setting`` is the setting that differs. If the provider
    returned its own reason, it is ``provider_reason``, it determines ``verdict``, and ``own_verdict`` is the verdict
    without it. ``words`` is the verdict in a sentence.
    """

    interaction_id: str
    time: datetime
    iteration: int | None
    model: str
    prompt_tokens: int | None
    cached_tokens: int | None
    ceiling_tokens: int
    verdict: Verdict
    change: str | None
    segment: str | None
    segment_number: int | None
    setting: str | None
    provider_reason: str | None
    own_verdict: Verdict | None
    compared_with: str | None
    gap_s: float | None
    tokens_lost: int
    usd_lost: float | None
    confidence: float
    words: str


class VerdictCount(TypedDict):
    """The number of calls with a verdict, and their losses; ``usd_lost`` is None if all of them are unpriced."""

    verdict: Verdict
    calls: int
    tokens_lost: int
    usd_lost: float | None


class CacheExplanation(TypedDict):
    """The explanation of a run. Token sums and rates (0-1) are over the calls that reported their cache use.

    ``cache_hit_rate`` is the effective hit rate. ``achievable_hit_rate`` is the rate without the
    avoidable misses; ``tokens_lost`` and ``usd_lost`` are the difference between the two. ``ceiling_hit_rate`` is the
    highest rate that the provider's rules allowed for the prompts as they were sent; the achievable rate can be higher,
    because it assumes that prompts, settings or times change. ``unknown_interactions`` counts the calls whose miss
    reasons are not known because they have no fingerprint. ``verdicts`` and ``advice`` are sorted by loss, largest
    first. ``agreement`` compares the reasons that the provider returned with the verdicts without them;
    ``agreement_rate`` is the share of these calls for which both agree, None without any. ``rules`` names the cache
    rules used, each with ``source`` and ``read``, the date it was read. ``notes`` are sentences on how far to trust the
    explanation.
    """

    query_id: str
    run_id: datetime
    total_interactions: int
    unknown_interactions: int
    prompt_tokens: int
    cached_tokens: int
    cache_hit_rate: float | None
    achievable_hit_rate: float | None
    tokens_lost: int
    usd_lost: float | None
    ceiling_tokens: int
    ceiling_hit_rate: float | None
    verdicts: Table[VerdictCount]
    advice: Table[CacheAdvice]
    agreement: Table[Agreement]
    agreement_rate: float | None
    rules: list[dict[str, Any]]
    notes: list[str]
    interactions: Table[CallVerdict]


def explain_cache(
    store: PostgresStore, query_id: str, run_id: datetime, *, limit: int = _MOST_CALLS
) -> CacheExplanation | None:
    """Explain the cache use of a run; None for a run without calls.

    Blocks for up to five queries, and about 0.2 ms per call. That includes calls of other runs that may have filled the
    cache: as many as ``limit``, but at least 2,000 and at most 5,000.

    Args:
        store: The store to read.
        query_id: The query.
        run_id: The run of the query.
        limit: Explain at most this number of calls, the newest.
    """
    own = calls_of_runs(store, [(query_id, run_id)], limit + _BEFORE)
    before = own[limit:]
    if not own:
        return None
    others: list[dict[str, Any]] = []
    if any(row["fingerprint"] is not None for row in own):
        first, last = own[-1]["time"], own[0]["time"]
        neighbours = store.query(
            "explain_neighbours",
            query_id=query_id,
            run_id=run_id,
            since=shifted(first, -_look_back(own)),
            until=last,
            models=sorted({row["model"] for row in own}),
            of_query=_OF_SAME_QUERY,
            newest=_NEWEST_CALLS,
            limit=_NEIGHBOURS,
        )
        if neighbours:
            runs = [(row["query_id"], row["run_id"]) for row in neighbours]
            others = calls_of_runs(store, runs, min(max(limit, _LEAST_OF_NEIGHBOURS), _MOST_OF_NEIGHBOURS))
    found = explain_rows(query_id, run_id, own[:limit], [*others, *before])
    if before:
        found["notes"].append(f"only the newest {limit:,} calls were explained")
    return found


def _look_back(own: Iterable[Mapping[str, Any]]) -> timedelta:
    """Return how long before a run to look for calls: twice as long as its models' rules keep any entry.

    Older calls cannot have filled the cache. Calls whose entries have expired are included, because they distinguish a
    first call from one after a long pause.
    """
    rules = [cache_rule(*model) for model in {(row["provider"], row["model"]) for row in own}]
    longest = max((each.expected_s for rule in rules for each in rule.lifetimes.values()), default=0.0)
    return max(_LEAST_LOOK_BACK, timedelta(seconds=2 * longest))


def hit_rate_words(found: CacheExplanation) -> str:
    """Format the effective and the achievable hit rate of an explanation, and their difference."""
    return hit_rates(
        found["cache_hit_rate"],
        found["achievable_hit_rate"],
        found["tokens_lost"],
        found["usd_lost"],
        found["unknown_interactions"],
        found["total_interactions"],
    )


def calls_of_runs(store: PostgresStore, runs: list[tuple[str, datetime]], limit: int) -> list[dict[str, Any]]:
    """Return at most ``limit`` calls of some runs, the newest, as the query ``explain_calls`` returns them."""
    keys = {"query_ids": [query_id for query_id, _ in runs], "run_ids": [run_id for _, run_id in runs]}
    bounds = store.query("runs_bounds", **keys)[0]
    return store.query("explain_calls", **keys, **bounds, limit=limit)


def explain_rows(
    query_id: str, run_id: datetime, own: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]] = ()
) -> CacheExplanation:
    """Compute the result of :func:`explain_cache` from rows of ``explain_calls``. Pure.

    Args:
        query_id: The query.
        run_id: The run of the query.
        own: The calls to explain.
        others: Calls of other runs or of this one that may have filled the cache, but are not explained.
    """
    calls = chain_calls(_read(own, others))
    count_tokens(calls)
    judged = judge(calls)
    reported = [each for each in judged if _reported(each)]
    prompt = sum(each.call.row["prompt_tokens"] for each in reported)
    cached = sum(each.call.row["cached_tokens"] for each in reported)
    ceiling = sum(each.ceiling for each in reported)
    lost = sum(each.lost for each in reported)
    agreement = count_agreement(judged)
    made: CacheExplanation = {
        "query_id": query_id,
        "run_id": run_id,
        "total_interactions": len(judged),
        "unknown_interactions": sum(each.verdict == "unknown" for each in judged),
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "cache_hit_rate": cached / prompt if prompt else None,
        "achievable_hit_rate": (cached + lost) / prompt if prompt else None,
        "tokens_lost": lost,
        "usd_lost": _sum_usd(judged),
        "ceiling_tokens": ceiling,
        "ceiling_hit_rate": ceiling / prompt if prompt else None,
        "verdicts": _counts(judged),
        "advice": Table(advise(judged), CacheAdvice.__annotations__),
        "agreement": agreement,
        "agreement_rate": agreement_rate(agreement),
        "rules": _rules(judged),
        "notes": _notes(judged),
        "interactions": Table([_call_verdict(each) for each in judged], CallVerdict.__annotations__),
    }
    return cast("CacheExplanation", Sheet(made))


def _read(own: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]) -> list[Call]:
    by_run: dict[tuple[str, datetime], list[tuple[Mapping[str, Any], bool]]] = defaultdict(list)
    for rows, is_own in ((own, True), (others, False)):
        for row in rows:
            by_run[row["query_id"], row["run_id"]].append((row, is_own))
    calls = []
    for of_run in by_run.values():  # a whole run at once, because its fingerprints are stored as differences
        known = decode_run((row["interaction_id"], row["fingerprint"]) for row, _ in of_run)
        calls += [Call.of(row, known.get(str(row["interaction_id"])), own=is_own) for row, is_own in of_run]
    if all(call.own for call in calls):
        return calls
    digests = {
        segment.digest for call in calls if call.own and call.fingerprint for segment in call.fingerprint.segments
    }
    return [call for call in calls if call.own or _shares(call, digests)]


def _shares(call: Call, digests: set[bytes]) -> bool:
    """Return True if a call shares a segment with the explained calls; most calls of other runs share none."""
    fingerprint = call.fingerprint
    if fingerprint is None:
        return False
    if fingerprint.response in digests:
        return True
    return any(segment.digest in digests for segment in fingerprint.segments)


def _reported(judged: JudgedCall) -> bool:
    row = judged.call.row
    return row["cached_tokens"] is not None and row["prompt_tokens"] is not None


def _sum_usd(judged: Iterable[JudgedCall]) -> float | None:
    costs = [cost for each in judged if (cost := usd_lost(each)) is not None]
    return math.fsum(costs) if costs else None


def _counts(judged: Iterable[JudgedCall]) -> Table[VerdictCount]:
    groups: dict[Verdict, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        groups[each.verdict].append(each)
    found: list[VerdictCount] = [
        {
            "verdict": verdict,
            "calls": len(groups[verdict]),
            "tokens_lost": sum(each.lost for each in groups[verdict]),
            "usd_lost": _sum_usd(groups[verdict]),
        }
        for verdict in VERDICTS
        if verdict in groups
    ]
    found.sort(key=lambda each: (-(each["usd_lost"] or 0.0), -each["tokens_lost"], -each["calls"]))
    return Table(found, VerdictCount.__annotations__)


def _call_verdict(judged: JudgedCall) -> CallVerdict:
    row, divergence, compared = judged.call.row, judged.divergence, judged.compared
    return {
        "interaction_id": str(row["interaction_id"]),
        "time": row["time"],
        "iteration": row["iteration"],
        "model": row["model"],
        "prompt_tokens": row["prompt_tokens"],
        "cached_tokens": row["cached_tokens"],
        "ceiling_tokens": judged.ceiling,
        "verdict": judged.verdict,
        "change": None if divergence is None else divergence.change,
        "segment": _segment(judged),
        "segment_number": None if divergence is None else divergence.index,
        "setting": judged.setting,
        "provider_reason": None if judged.reason is None else judged.reason.name,
        "own_verdict": judged.own_verdict,
        "compared_with": None if compared is None else str(compared.row["interaction_id"]),
        "gap_s": judged.gap_s,
        "tokens_lost": judged.lost,
        "usd_lost": usd_lost(judged),
        "confidence": judged.confidence,
        "words": judged.words,
    }


def _segment(judged: JudgedCall) -> str | None:
    if judged.divergence is not None:
        return segment_words(judged.divergence.part)
    if judged.verdict == "breakpoint_missing" and judged.unmarked is not None:
        return segment_words(judged.unmarked)
    return None


def _rules(judged: Iterable[JudgedCall]) -> list[dict[str, Any]]:
    used = {each.call.rule.name: each.call.rule for each in judged}
    return [
        {
            "name": rule.name,
            "matching": rule.matching,
            "minimum_tokens": rule.minimum_tokens,
            "step_tokens": rule.step_tokens,
            "lifetimes": {name: asdict(lifetime) for name, lifetime in rule.lifetimes.items()},
            "published": rule.published,
            "source": rule.source,
            "read": rule.read.isoformat(),
        }
        for rule in used.values()
    ]


def _notes(judged: list[JudgedCall]) -> list[str]:
    notes = ["token counts of parts of prompts are estimated from their characters; those of whole prompts are exact"]
    without = sum(each.verdict == "unknown" for each in judged)
    if without:
        notes.append(f"miss reasons unknown: {without} of {len(judged)} calls have no fingerprint")
    unpublished = sorted({each.call.rule.name for each in judged if not each.call.rule.published})
    if unpublished:
        notes.append(
            f"this provider does not publish its cache rules; results are estimates ({', '.join(unpublished)})"
        )
    if len({each.call.fingerprint.installation for each in judged if each.call.fingerprint is not None}) > 1:
        notes.append("the calls come from several installations, whose fingerprints cannot be compared with each other")
    return notes

"""Avoidable cache misses of several runs, summed by query and reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TypedDict

from .report import CacheExplanation, CallVerdict
from .sentences import span

_LIKELY = 0.5
_SURE = 0.7


class CacheLoss(TypedDict):
    """The losses of the calls of one query and model for one reason.

    ``part`` is the part of the prompt or the setting that changed. ``run_id`` is the newest run concerned.
    ``usd_lost`` is None if no call has a price. ``advice`` is the recommendation for these calls, None without one.
    ``confidence`` (0-1) is the mean confidence of the calls, weighted by lost tokens; ``is_likely`` is True for calls
    whose confidence is 0.5 or more, which are summed separately from the others. ``longest_gap_s`` is the longest time
    between a call and the one that its prompt was compared with, None if unknown.
    """

    query_id: str
    run_id: datetime
    models: list[str]
    verdict: str
    part: str | None
    runs: int
    calls: int
    tokens_lost: int
    usd_lost: float | None
    advice: str | None
    confidence: float
    is_likely: bool
    longest_gap_s: float | None


def losses_of(explained: CacheExplanation) -> list[CacheLoss]:
    """Return the losses of one run, one for each model, reason and part of the prompt."""
    words = {name: item["words"] for item in reversed(explained["advice"]) for name in item["interaction_ids"]}
    groups: dict[tuple[str, str, str | None, bool], list[CallVerdict]] = {}
    for call in explained["interactions"]:
        if call["tokens_lost"]:
            key = (call["model"], call["verdict"], call["segment"] or call["setting"], call["confidence"] >= _LIKELY)
            groups.setdefault(key, []).append(call)
    found: list[CacheLoss] = []
    for (model, verdict, part, is_likely), calls in groups.items():
        costs = [call["usd_lost"] for call in calls if call["usd_lost"] is not None]
        tokens = sum(call["tokens_lost"] for call in calls)
        found.append(
            {
                "query_id": explained["query_id"],
                "run_id": explained["run_id"],
                "models": [model],
                "verdict": verdict,
                "part": part,
                "runs": 1,
                "calls": len(calls),
                "tokens_lost": tokens,
                "usd_lost": math.fsum(costs) if costs else None,
                "advice": next((text for call in calls if (text := words.get(call["interaction_id"]))), None),
                "confidence": sum(call["confidence"] * call["tokens_lost"] for call in calls) / tokens,
                "is_likely": is_likely,
                "longest_gap_s": max((call["gap_s"] for call in calls if call["gap_s"] is not None), default=None),
            }
        )
    return found


def merge_losses(losses: Iterable[CacheLoss], models: Collection[str] | None = None) -> list[CacheLoss]:
    """Sum losses of several runs by query, reason, part of the prompt and ``is_likely``, most money first.

    Args:
        losses: As :func:`losses_of` returns them.
        models: Only losses of these models; None: all.
    """
    groups: dict[tuple[str, str, str | None, bool], list[CacheLoss]] = {}
    for loss in losses:
        if models is None or loss["models"][0] in models:
            groups.setdefault((loss["query_id"], loss["verdict"], loss["part"], loss["is_likely"]), []).append(loss)
    found = [_merged(group) for group in groups.values()]
    return sorted(found, key=lambda loss: (-(loss["usd_lost"] or 0.0), -loss["tokens_lost"], loss["query_id"]))


def _merged(group: Sequence[CacheLoss]) -> CacheLoss:
    newest = max(group, key=lambda loss: loss["run_id"])
    costs = [loss["usd_lost"] for loss in group if loss["usd_lost"] is not None]
    advice = sorted((loss for loss in group if loss["advice"]), key=lambda loss: loss["run_id"])
    tokens = sum(loss["tokens_lost"] for loss in group)
    return {
        **newest,
        "models": sorted({model for loss in group for model in loss["models"]}),
        "runs": len({loss["run_id"] for loss in group}),
        "calls": sum(loss["calls"] for loss in group),
        "tokens_lost": tokens,
        "usd_lost": math.fsum(costs) if costs else None,
        "advice": advice[-1]["advice"] if advice else None,
        "confidence": sum(loss["confidence"] * loss["tokens_lost"] for loss in group) / tokens,
        "longest_gap_s": max((gap for loss in group if (gap := loss["longest_gap_s"]) is not None), default=None),
    }


def sureness_words(loss: CacheLoss) -> str:
    """Return ``uncertain`` for a loss that is not likely, ``probably`` below a confidence of 0.7, else nothing."""
    if not loss["is_likely"]:
        return "uncertain"
    return "probably" if loss["confidence"] < _SURE else ""


def doubt_words(loss: CacheLoss) -> str:
    """Return a sentence on why a loss is uncertain; empty if it is likely."""
    gap = loss["longest_gap_s"]
    if loss["is_likely"]:
        return ""
    if loss["verdict"] in {"provider_miss", "partial_hit"} and gap is not None:
        pause = f"a pause of {span(gap)}" if loss["calls"] == 1 else f"pauses of up to {span(gap)}"
        return f"The entry may have expired in {pause}."
    return "This provider does not publish for how long it keeps entries." if loss["verdict"] == "expired" else ""

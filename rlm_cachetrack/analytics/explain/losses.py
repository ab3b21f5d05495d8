"""Avoidable cache misses of several runs, summed by query and reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TypedDict

from .report import CacheExplanation


class CacheLoss(TypedDict):
    """What calls of one query and model lost for one reason.

    ``part`` is the part of the prompt or the setting that changed. ``run_id`` is the newest run concerned.
    ``usd_lost`` is None if no call has a price. ``advice`` is the recommendation for these calls, None without one.
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


def losses_of(explained: CacheExplanation) -> list[CacheLoss]:
    """Return the losses of one run, one for each model, reason and part of the prompt."""
    words = {name: item["words"] for item in reversed(explained["advice"]) for name in item["interaction_ids"]}
    found: dict[tuple[str, str, str | None], CacheLoss] = {}
    for call in explained["interactions"]:
        if not call["tokens_lost"]:
            continue
        part = call["segment"] or call["setting"]
        loss = found.setdefault(
            (call["model"], call["verdict"], part),
            {
                "query_id": explained["query_id"],
                "run_id": explained["run_id"],
                "models": [call["model"]],
                "verdict": call["verdict"],
                "part": part,
                "runs": 1,
                "calls": 0,
                "tokens_lost": 0,
                "usd_lost": None,
                "advice": None,
            },
        )
        loss["calls"] += 1
        loss["tokens_lost"] += call["tokens_lost"]
        loss["usd_lost"] = _plus(loss["usd_lost"], call["usd_lost"])
        loss["advice"] = loss["advice"] or words.get(call["interaction_id"])
    return list(found.values())


def merge_losses(losses: Iterable[CacheLoss], models: Collection[str] | None = None) -> list[CacheLoss]:
    """Sum losses of several runs by query, reason and part of the prompt, most money first.

    Args:
        losses: As :func:`losses_of` returns them.
        models: Only losses of these models; None: all.
    """
    groups: dict[tuple[str, str, str | None], list[CacheLoss]] = {}
    for loss in losses:
        if models is None or loss["models"][0] in models:
            groups.setdefault((loss["query_id"], loss["verdict"], loss["part"]), []).append(loss)
    found = [_merged(group) for group in groups.values()]
    return sorted(found, key=lambda loss: (-(loss["usd_lost"] or 0.0), -loss["tokens_lost"], loss["query_id"]))


def _merged(group: Sequence[CacheLoss]) -> CacheLoss:
    newest = max(group, key=lambda loss: loss["run_id"])
    costs = [loss["usd_lost"] for loss in group if loss["usd_lost"] is not None]
    advice = sorted((loss for loss in group if loss["advice"]), key=lambda loss: loss["run_id"])
    return {
        **newest,
        "models": sorted({model for loss in group for model in loss["models"]}),
        "runs": len({loss["run_id"] for loss in group}),
        "calls": sum(loss["calls"] for loss in group),
        "tokens_lost": sum(loss["tokens_lost"] for loss in group),
        "usd_lost": math.fsum(costs) if costs else None,
        "advice": advice[-1]["advice"] if advice else None,
    }


def _plus(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other

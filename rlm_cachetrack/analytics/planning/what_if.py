"""The calls that were made, at other prices: another model, service tier, price list, or share of cached input."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pricing import Schedule

from .repricing import lay_out

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

__all__ = ["WhatIf", "WhatIfModel", "what_if"]


class WhatIfModel(TypedDict):
    """One model that was used. Costs: USD, over the calls whose both costs are known, like the token counts."""

    model: str
    total_interactions: int
    compared_interactions: int
    actual_cost: float | None
    what_if_cost: float | None
    prompt_tokens: float
    cached_tokens: float
    what_if_cached_tokens: float
    completion_tokens: float


class WhatIf(TypedDict):
    """An answer. Costs: USD, over the calls whose both costs are known; ``cost_difference`` is negative where it saves.

    ``hit_rate`` and ``what_if_hit_rate`` are 0-1, None without prompt tokens; ``assumptions`` are sentences.
    """

    total_interactions: int
    compared_interactions: int
    actual_cost: float | None
    what_if_cost: float | None
    cost_difference: float | None
    hit_rate: float | None
    what_if_hit_rate: float | None
    assumptions: list[str]
    by_model: list[WhatIfModel]


def what_if(
    store: PostgresStore,
    prices: Callable[[], PriceBook] | None,
    which: Mapping[str, Any],
    *,
    model: str | None = None,
    provider: str | None = None,
    tier: str | None = None,
    hit_rate: float | None = None,
    other_prices: bool = False,
    now: datetime | None = None,
) -> WhatIf:
    """What calls would have cost. Blocks for two queries over them; changes nothing.

    Args:
        store: Where the calls are.
        prices: Gives the prices; not asked, and may be None, where only the hit rate is another.
        which: The calls, as :func:`.scope` gives it.
        model: Made by this model instead.
        provider: Whose prices of ``model`` to take; None: those of each call's provider, else of its vendor.
        tier: At this service tier instead.
        hit_rate: With this share of the input from the cache, 0-1.
        other_prices: ``prices`` is another price list than the one the calls were priced with.
        now: The day whose prices hold for another model, tier or list; None: today.

    Raises:
        ConfigError: Nothing is asked, the hit rate is no share, or no price is known of ``model`` at all.
    """
    if model is None and tier is None and hit_rate is None and not other_prices:
        raise ConfigError("what is to be different? Name a model, a service tier, a hit rate or a price list")
    if hit_rate is not None and not 0 <= hit_rate <= 1:
        raise ConfigError(f"hit_rate={hit_rate!r}: expected a share from 0 to 1, such as 0.8 for 80 %")
    if provider is not None and model is None:
        raise ConfigError("provider says whose prices of another model to take: name the model")
    own = model is None and tier is None and not other_prices
    moment = now or datetime.now(UTC)
    rates: list[dict[str, Any]] = []
    unknown: set[str] = set()
    book = None if own or prices is None else prices()
    if book is not None:
        for kind in store.query("what_if_groups", **which):
            schedule = _schedule(book, kind, model, provider, tier)
            period = None if schedule is None else schedule.always or schedule.at(moment)
            if period is None:
                served = tier or kind["service_tier"]
                unknown.add(f"{model or kind['model']}{f' at {served}' if served else ''}")
                continue
            key = {
                "model": kind["model"],
                "provider": kind["provider"] or "",
                "service_tier": kind["service_tier"] or "",
            }
            rates += lay_out(key, Schedule(period), kind["first_time"], kind["last_time"])
        if unknown and not rates:
            raise ConfigError(f"no price is known of {', '.join(sorted(unknown))}: a pricing file can name one")
    rows: list[Any] = store.query("what_if", rates=json.dumps(rates), own=own, hit_rate=hit_rate, **which)
    return _answer(rows, _assumptions(model, provider, tier, hit_rate, moment, book, unknown))


def _schedule(
    book: PriceBook, kind: Mapping[str, Any], model: str | None, provider: str | None, tier: str | None
) -> Schedule | None:
    served = tier or kind["service_tier"]
    if model is None:
        return book.schedule(model=kind["model"], provider=kind["provider"], service_tier=served)
    found = book.schedule(model=model, provider=provider or kind["provider"], service_tier=served)
    if found is None and provider is None:
        return book.schedule(model=model, provider=None, service_tier=served)
    return found


def _assumptions(
    model: str | None,
    provider: str | None,
    tier: str | None,
    hit_rate: float | None,
    moment: datetime,
    book: PriceBook | None,
    unknown: set[str],
) -> list[str]:
    said = []
    if model is not None:
        said.append(
            f"{model} would have read and written the same numbers of tokens: other tokenizers count differently, "
            "other models answer at other lengths"
        )
        if provider is None:
            said.append("the prices are those of each call's provider, else of the model's vendor")
    if tier is None and book is not None:
        said.append("each call is served at the tier that served it")
    if tier is not None:
        said.append(f"every call could have been served at {tier}")
    if book is None:
        said.append("each call has the prices it was stored with")
    else:
        said.append(f"the prices are those of {moment:%Y-%m-%d}, by {book.describe()}")
    if hit_rate is None:
        said.append("each call finds in the cache what it found; what was not reported counts as not cached")
    else:
        said.append(
            f"of every prompt {hit_rate:.1%} comes from the cache, also of those too short for it; what was written to "
            "the cache is written again, as far as it is not read"
        )
    if unknown:
        said.append(f"calls without a price are left out on both sides: {', '.join(sorted(unknown))}")
    return said


def _answer(rows: list[WhatIfModel], assumptions: list[str]) -> WhatIf:
    compared = [row for row in rows if row["compared_interactions"]]
    actual = sum(row["actual_cost"] or 0.0 for row in compared)
    asked = sum(row["what_if_cost"] or 0.0 for row in compared)
    prompt = sum(row["prompt_tokens"] for row in compared)
    return {
        "total_interactions": sum(row["total_interactions"] for row in rows),
        "compared_interactions": sum(row["compared_interactions"] for row in rows),
        "actual_cost": actual if compared else None,
        "what_if_cost": asked if compared else None,
        "cost_difference": asked - actual if compared else None,
        "hit_rate": sum(row["cached_tokens"] for row in compared) / prompt if prompt else None,
        "what_if_hit_rate": sum(row["what_if_cached_tokens"] for row in compared) / prompt if prompt else None,
        "assumptions": assumptions,
        "by_model": rows,
    }

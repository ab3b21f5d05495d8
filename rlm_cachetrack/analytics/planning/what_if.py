"""Price recorded calls as if made with another model, service tier, price list or hit rate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rlm_cachetrack.analytics.filters import CallFilters, check_range, query_parameters
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pricing import Schedule

from .repricing import lay_out
from .what_if_details import add_detailed

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore


class WhatIfModel(TypedDict):
    """The calls of one model. Costs (USD) and tokens are of the calls whose cost is known on both sides."""

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
    """The result. Costs: USD over the calls whose cost is known on both sides; a negative difference is a saving.

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
    *,
    to_model: str | None = None,
    to_provider: str | None = None,
    tier: str | None = None,
    hit_rate: float | None = None,
    other_prices: bool = False,
    now: datetime | None = None,
    **filters: Unpack[CallFilters],
) -> WhatIf:
    """Return the hypothetical cost of calls. Changes nothing. Blocks for three queries over the calls.

    Args:
        store: The store of the calls.
        prices: Returns the price book; not called, and may be None, if only the hit rate differs.
        to_model: Price the calls as this model.
        to_provider: The provider whose prices of ``to_model`` apply; None: that of each call, else the vendor.
        tier: Price the calls at this service tier.
        hit_rate: The share of input read from the cache, 0-1.
        other_prices: Whether ``prices`` is another price list than the one that the calls were priced with.
        now: The day whose prices apply to another model, tier or list; None: today.
        filters: See :class:`.CallFilters`.

    Raises:
        ConfigError: No difference is given, the hit rate is not a share, or no call has a price.
    """
    if to_model is None and tier is None and hit_rate is None and not other_prices:
        raise ConfigError("give at least one of to_model, tier, hit_rate and pricing")
    if hit_rate is not None and not 0 <= hit_rate <= 1:
        raise ConfigError(f"hit_rate={hit_rate!r}: expected a share from 0 to 1, such as 0.8 for 80%")
    if to_provider is not None and to_model is None:
        raise ConfigError("to_provider needs to_model: it selects whose prices of that model apply")
    check_range(filters)
    which = query_parameters(filters)
    own = to_model is None and tier is None and not other_prices
    moment = now or datetime.now(UTC)
    rates: list[dict[str, Any]] = []
    unknown: set[str] = set()
    book = None if own or prices is None else prices()
    if book is not None:
        for group in store.query("what_if_groups", **which):
            schedule = _schedule(book, group, to_model, to_provider, tier)
            period = None if schedule is None else schedule.at(moment)
            if period is None:
                served = tier or group["service_tier"]
                unknown.add(f"{to_model or group['model']}{f' at {served}' if served else ''}")
                continue
            labels = {
                "model": group["model"],
                "provider": group["provider"] or "",
                "service_tier": group["service_tier"] or "",
            }
            rates += lay_out(labels, Schedule(period), group["first_time"], group["last_time"])
        if unknown and not rates:
            raise ConfigError(f"no price is known for {', '.join(sorted(unknown))}; add one to a pricing file")
    rows: list[Any] = store.query("what_if", rates=json.dumps(rates), own=own, hit_rate=hit_rate, **which)
    assumptions = _assumptions(to_model, to_provider, tier, hit_rate, moment, book, unknown)
    if book is not None:
        by_model = {row["model"]: row for row in rows}
        detailed = add_detailed(by_model, store, book, which, rates, moment, hit_rate)
        rows = sorted(by_model.values(), key=lambda row: (-(row["actual_cost"] or 0.0), row["model"]))
        assumptions += detailed.assumptions()
    return _result(rows, assumptions)


def _schedule(
    book: PriceBook, group: Mapping[str, Any], model: str | None, provider: str | None, tier: str | None
) -> Schedule | None:
    served = tier or group["service_tier"]
    if model is None:
        return book.schedule(model=group["model"], provider=group["provider"], service_tier=served)
    found = book.schedule(model=model, provider=provider or group["provider"], service_tier=served)
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
    lines = []
    if model is not None:
        lines.append(
            f"{model} would have used the same numbers of tokens, although tokenizers and lengths of responses differ"
        )
        if provider is None:
            lines.append("prices are those of each call's provider, else of the model's vendor")
    if tier is None and book is not None:
        lines.append("each call keeps the service tier that served it")
    if tier is not None:
        lines.append(f"every call could have been served at {tier}")
    if book is None:
        lines.append("each call keeps the prices it was stored with")
    else:
        lines.append(f"prices are those of {moment:%Y-%m-%d} from {book.describe()}")
    if hit_rate is None:
        lines.append("cached tokens are those of the recorded calls; not reported counts as not cached")
    else:
        lines.append(
            f"the hit rate is {hit_rate:.1%} for all prompts, even those too short to cache; tokens that were written "
            "to the cache are written again unless they are read"
        )
    if unknown:
        lines.append(f"unpriced calls are left out on both sides: {', '.join(sorted(unknown))}")
    return lines


def _result(rows: list[WhatIfModel], assumptions: list[str]) -> WhatIf:
    compared = [row for row in rows if row["compared_interactions"]]
    actual = sum(row["actual_cost"] or 0.0 for row in compared)
    changed = sum(row["what_if_cost"] or 0.0 for row in compared)
    prompt = sum(row["prompt_tokens"] for row in compared)
    return {
        "total_interactions": sum(row["total_interactions"] for row in rows),
        "compared_interactions": sum(row["compared_interactions"] for row in rows),
        "actual_cost": actual if compared else None,
        "what_if_cost": changed if compared else None,
        "cost_difference": changed - actual if compared else None,
        "hit_rate": sum(row["cached_tokens"] for row in compared) / prompt if prompt else None,
        "what_if_hit_rate": sum(row["what_if_cached_tokens"] for row in compared) / prompt if prompt else None,
        "assumptions": assumptions,
        "by_model": rows,
    }

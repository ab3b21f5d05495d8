"""Read the usage of a response into :class:`TokenUsage`, in every dialect of the OpenAI API.

:func:`locate_usage` and :func:`plain` run on the calling thread and take microseconds; :func:`read_usage` runs on the
writer thread. ``docs/dialects.md`` explains the rows and the rules of normalization, with the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .details import DETAILS, OPTIONS, TOOLS, find_paths, read_details, read_options, split_writes
from .dialects import DIALECTS, Dialect, Path, get_path, has_path

_INT4_MAX = 2**31 - 1
# No call costs more; an absurd amount of a server would make every sum with it absurd.
_MOST_USD = 1_000_000


class TokenUsage(NamedTuple):
    """The tokens of one call, named as in the OpenAI SDK. None means "not reported", 0 means "none".

    Attributes:
        prompt_tokens: All input tokens, including those read from the cache.
        completion_tokens: All output tokens, including ``reasoning_tokens``.
        total_tokens: As reported; corrected together with ``prompt_tokens`` if both left out the same tokens.
        cached_tokens: Input tokens read from the cache; never more than ``prompt_tokens``.
        cache_write_tokens: Input tokens written to the cache.
        reasoning_tokens: Output tokens spent on reasoning.
        provider_cost_usd: The cost that the provider returned, in USD.
        anomaly: Codes, joined by ``,``, of contradictions between the numbers (``docs/dialects.md``).
        dialect: The row of :data:`DIALECTS` that was used; ``none``: no usage, ``unknown``: no row fits.
        details: Parts of the counts above that have a separate price or meaning, and other units such as seconds, by
            the names of :data:`~.details.DETAILS`; only those that are not 0, None if there are none.
        tools: Billed uses of hosted tools in the usage; None if there are none.
        options: Region and speed as in the usage, None for the usual one, by the names of the column
            ``request_options``; None if it has neither.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    provider_cost_usd: float | None = None
    anomaly: str | None = None
    dialect: str = "none"
    details: Mapping[str, Any] | None = None
    tools: Mapping[str, int] | None = None
    options: Mapping[str, str | None] | None = None

    @property
    def uncached_prompt_tokens(self) -> int | None:
        """``prompt_tokens - cached_tokens``, including written tokens; None if either is not reported."""
        if self.prompt_tokens is None or self.cached_tokens is None:
            return None
        return self.prompt_tokens - self.cached_tokens


NO_USAGE = TokenUsage()
"""The usage of a call that reported none."""
_UNKNOWN = TokenUsage(dialect="unknown")


def read_usage(raw: Mapping[str, Any] | None, *, provider: str | None = None) -> TokenUsage:
    """Read a usage in any dialect.

    The keys select the row of :data:`DIALECTS`; ``provider`` only selects between rows that fit equally well.
    Numbers that are not valid token counts (text, negative, fractions, over 2,147,483,647) count as not reported and
    are flagged. Then the counts are normalized: see ``docs/dialects.md``.

    Args:
        raw: The usage from :func:`plain`, or None.
        provider: The provider of the call, such as ``openai`` or ``mistral``.

    Returns:
        The normalized usage; :data:`NO_USAGE` for None. Never raises on malformed content, never blocks.
    """
    if type(raw) is not dict and not isinstance(raw, Mapping):
        return NO_USAGE
    plan = _plan_for(raw, provider)
    if plan is None:
        return _UNKNOWN
    flags: list[str] = []
    counts = _Counts(*[_count(raw, paths, flags) if paths else None for paths in plan.counts])
    cost = _cost(raw, plan.row, flags) if plan.has_cost else None
    details = read_details(raw, plan.details) if plan.details else None
    if details is not None:
        counts.write = split_writes(counts.write, details)
    if not _are_consistent(counts):
        _normalize(counts, plan.row, flags)
    return TokenUsage(
        counts.prompt,
        counts.completion,
        counts.total,
        counts.cached,
        counts.write,
        counts.reasoning,
        cost,
        ",".join(dict.fromkeys(flags)) if flags else None,
        plan.row.name,
        details or None,
        read_details(raw, plan.tools) if plan.tools else None,
        read_options(raw, plan.options) if plan.options else None,
    )


# -- the paths of the counts -------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """The plan for usages with the same keys: the row, and for each count the paths that exist."""

    row: Dialect
    counts: tuple[tuple[Path, ...], ...]
    has_cost: bool
    details: tuple[tuple[str, Path], ...]
    tools: tuple[tuple[str, Path], ...]
    options: tuple[tuple[str, Path], ...]


_MAX_PLANS = 1_000
_plans: dict[tuple[Any, ...], _Plan | None] = {}
_MARKED = tuple(row for row in DIALECTS if row.markers or row.lacks)
_BY_PROVIDER: dict[str, tuple[Dialect, ...]] = {
    provider: tuple(row for row in DIALECTS if provider in row.providers)
    for row in DIALECTS
    for provider in row.providers
}
_DEFAULTS = tuple(row for row in DIALECTS if not (row.markers or row.lacks or row.providers))


def _plan_for(raw: Mapping[str, Any], provider: str | None) -> _Plan | None:
    """Return the plan for ``raw``; None if no row fits. Cached by keys and provider, which determine it."""
    keys: list[Any] = [provider]
    for key, value in raw.items():
        keys.append(key)
        if type(value) is dict or (type(value) is not int and isinstance(value, Mapping)):
            keys.append(None)  # None opens and closes the keys of a nested object
            keys += value
            keys.append(None)
    shape = tuple(keys)
    try:
        return _plans[shape]
    except KeyError:
        if len(_plans) >= _MAX_PLANS:
            _plans.clear()
        plan = _plans[shape] = _make_plan(raw, provider)
        return plan


def _make_plan(raw: Mapping[str, Any], provider: str | None) -> _Plan | None:
    row = _choose(raw, provider)
    if row is None:
        return None
    spellings = (row.prompt, row.completion, row.total, row.cached, row.cache_write, row.reasoning)
    counts = tuple(tuple(path for path in paths if has_path(raw, path)) for paths in spellings)
    has_cost = row.cost is not None and has_path(raw, row.cost)
    details, tools, options = (find_paths(raw, names) for names in (DETAILS, TOOLS, OPTIONS))
    return _Plan(row, counts, has_cost, details, tools, options)


def _choose(raw: Mapping[str, Any], provider: str | None) -> Dialect | None:
    for row in _MARKED:
        if row.fits(raw):
            return row
    for row in _BY_PROVIDER.get(provider.lower(), ()) if isinstance(provider, str) else ():
        if not raw.keys().isdisjoint(row.base):
            return row
    for row in _DEFAULTS:
        if row.fits(raw):
            return row
    return None


# -- normalization ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Counts:
    prompt: int | None
    completion: int | None
    total: int | None
    cached: int | None
    write: int | None
    reasoning: int | None


def _are_consistent(counts: _Counts) -> bool:
    """Return whether the counts add up and no part exceeds its whole, so that they need no normalization."""
    prompt, completion = counts.prompt, counts.completion
    return (
        prompt is not None
        and completion is not None
        and counts.total == prompt + completion
        and (counts.cached or 0) + (counts.write or 0) <= prompt
        and (counts.reasoning or 0) <= completion
    )


def _normalize(counts: _Counts, row: Dialect, flags: list[str]) -> None:
    """Make prompt all input and completion all output, where the numbers or the row prove which part is missing."""
    reasoning = counts.reasoning or 0
    # The tokens that prompt does not include, if it does not include cached tokens.
    apart = (counts.cached or 0) + ((counts.write or 0) if row.write_with_cached else 0)
    explained = True  # whether the total agrees with some way of counting
    if counts.prompt is not None and counts.completion is not None and counts.total is not None:
        excess = counts.total - counts.prompt - counts.completion
        if reasoning and excess in (reasoning, reasoning + apart):
            counts.completion += reasoning
            excess -= reasoning
        if excess == apart != 0:
            _add_to_prompt(counts, apart, row, flags, in_total=True)
        elif excess > 0 and row.output_from_total:
            counts.completion += excess
        elif excess != 0:
            explained = False
            flags.append("total_mismatch")
    elif counts.completion is not None and row.reasoning_in_completion == "outside":
        counts.completion += reasoning
    if counts.prompt is not None and explained and row.cached_in_prompt != "inside":
        documented = row.cached_in_prompt == "outside" and counts.total is None
        if apart > counts.prompt or (documented and apart):
            _add_to_prompt(counts, apart, row, flags, in_total=False)
    _flag_impossible(counts, flags)


def _add_to_prompt(counts: _Counts, apart: int, row: Dialect, flags: list[str], *, in_total: bool) -> None:
    prompt = (counts.prompt or 0) + apart
    total = counts.total if in_total or counts.total is None else counts.total + apart
    if max(prompt, total or 0) > _INT4_MAX:
        return
    counts.prompt, counts.total = prompt, total
    if row.cached_in_prompt != "outside":
        flags.append("cached_outside_prompt")


def _flag_impossible(counts: _Counts, flags: list[str]) -> None:
    cached = counts.cached or 0
    if cached > (counts.prompt or 0):
        # This prevents a hit rate over 1; the reported number stays in the raw usage.
        counts.cached = None
        flags.append("cached_exceeds_prompt" if counts.prompt is not None else "cached_without_prompt")
    elif counts.prompt is not None and (counts.write or 0) > counts.prompt - cached:
        flags.append("cache_write_exceeds_uncached")
    if counts.completion is not None:
        if (counts.reasoning or 0) > counts.completion:
            flags.append("reasoning_exceeds_completion")
        if counts.completion > _INT4_MAX:
            counts.completion = None
            flags.append("malformed")


def _count(raw: Mapping[str, Any], paths: tuple[Path, ...], flags: list[str]) -> int | None:
    found: int | None = None
    for path in paths:
        value: Any = raw
        for key in path:  # the plan lists only paths that are present
            value = value[key]
        if type(value) is int and 0 < value <= _INT4_MAX:  # the usual value first: this is the most called loop
            return value
        if value is None:
            continue
        if type(value) is float and value.is_integer():  # some encoders write all numbers as floats
            value = int(value)
        elif type(value) is str and value.isdecimal() and value.isascii() and len(value) < 12:
            value = int(value)  # like the models of the SDK, so that raw responses give the same counts
        if type(value) is not int or not 0 <= value <= _INT4_MAX:
            flags.append("malformed")
        elif value:
            return value
        else:
            found = 0
    return found


def _cost(raw: Mapping[str, Any], row: Dialect, flags: list[str]) -> float | None:
    if row.cost is None:
        return None
    most = _MOST_USD * row.cost_units_per_usd
    cost = _amount(get_path(raw, row.cost), most, flags)
    if cost is None or (cost == 0 and not row.cost_zero):
        return None
    if row.cost_byok is not None and raw.get("is_byok") is True:
        cost += _amount(get_path(raw, row.cost_byok), most, flags) or 0.0
    return cost / row.cost_units_per_usd


def _amount(value: object, most: float, flags: list[str]) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
        flags.append("malformed")
        return None
    return float(value)  # type: ignore[arg-type]

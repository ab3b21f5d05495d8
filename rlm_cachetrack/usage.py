"""What a response says it used, read into :class:`TokenUsage`: every dialect of the OpenAI API, one row each.

Three steps, apart because they run in different places: :func:`locate_usage` and :func:`plain` on the
caller's thread (microseconds, no interpretation), :func:`read_usage` on the writer's. The rows and the rules
of normalisation are explained, with the evidence, in ``docs/dialects.md``; half of this file is that table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["DIALECTS", "NO_USAGE", "Dialect", "TokenUsage", "locate_usage", "plain", "read_usage"]

_INT4_MAX = 2**31 - 1
_MAX_DEPTH = 8

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of one call in the words of the OpenAI SDK. None is "not reported", 0 is "none".

    Attributes:
        prompt_tokens: All input tokens, those read from the cache included.
        completion_tokens: All output tokens, ``reasoning_tokens`` included.
        total_tokens: As reported; raised along with ``prompt_tokens`` where it had left the same tokens out.
        cached_tokens: Input tokens read from the cache; never more than ``prompt_tokens``.
        cache_write_tokens: Input tokens written to the cache.
        reasoning_tokens: Output tokens spent on reasoning.
        provider_cost_usd: What the provider itself says the call cost, in USD.
        anomaly: Codes, joined by ``,``, where the numbers contradict themselves (``docs/dialects.md``).
        dialect: The row of :data:`DIALECTS` that read it; ``none``: no usage, ``unknown``: no row fits.
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

    @property
    def uncached_prompt_tokens(self) -> int | None:
        """``prompt_tokens - cached_tokens``, written tokens among them; None where either is not reported."""
        if self.prompt_tokens is None or self.cached_tokens is None:
            return None
        return self.prompt_tokens - self.cached_tokens


NO_USAGE = TokenUsage()
"""The usage of a call that reported none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of server words its usage. Adding a dialect is adding a row to :data:`DIALECTS`.

    Attributes:
        name: Stored with the reading, and the row's name in ``docs/dialects.md``.
        base: The row fits a usage that has one of these keys, …
        lacks: … has this one not, …
        markers: … and has one of these paths, which nobody else sends.
        providers: Names that break the tie between rows that fit a usage without markers.
        prompt: Where the number stands, like the five after it. Of several spellings the first that is not 0
            counts: a server that knows two leaves one at its default.
        cached_in_prompt: ``inside`` (documented: a greater cached count is impossible), ``outside``
            (documented), ``unsure`` (seen both ways: a greater cached count was counted apart and is added).
        write_with_cached: Where cached tokens stand outside prompt, written ones do too.
        reasoning_in_completion: Where the provider counts reasoning when no total tells.
        output_from_total: The total holds output that no field lists, so completion is total minus prompt.
        cost: Where the provider states what the call cost.
        cost_units_per_usd: How many of its units are one USD.
        cost_zero: False where a cost of 0 means "not metered here".
        cost_byok: What is owed besides where ``is_byok`` says that the upstream key is the caller's own.
        source: What was read to write the row, and when.
    """

    name: str
    base: tuple[str, ...]
    lacks: str | None = None
    markers: tuple[Path, ...] = ()
    providers: tuple[str, ...] = ()
    prompt: tuple[Path, ...]
    completion: tuple[Path, ...]
    total: tuple[Path, ...] = (("total_tokens",),)
    cached: tuple[Path, ...]
    cache_write: tuple[Path, ...]
    reasoning: tuple[Path, ...]
    cached_in_prompt: Literal["inside", "outside", "unsure"] = "inside"
    write_with_cached: bool = False
    reasoning_in_completion: Literal["inside", "outside"] = "inside"
    output_from_total: bool = False
    cost: Path | None = None
    cost_units_per_usd: float = 1.0
    cost_zero: bool = True
    cost_byok: Path | None = None
    source: str

    def fits(self, raw: Mapping[str, Any]) -> bool:
        """Whether the row's keys, and its markers if it has any, are in ``raw``."""
        if self.markers:
            for path in self.markers:
                if path[0] in raw and (len(path) == 1 or _has(raw, path)):
                    break
            else:
                return False
        return not raw.keys().isdisjoint(self.base) and self.lacks not in raw


def _at(*dotted: str) -> tuple[Path, ...]:
    return tuple(tuple(path.split(".")) for path in dotted)


_CHAT = Dialect(
    name="openai-chat",
    base=("prompt_tokens", "completion_tokens"),
    providers=("openai",),
    prompt=_at("prompt_tokens"),
    completion=_at("completion_tokens"),
    cached=_at("prompt_tokens_details.cached_tokens"),
    cache_write=_at("prompt_tokens_details.cache_write_tokens"),
    reasoning=_at("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
    source="https://developers.openai.com/api/docs/guides/prompt-caching, 2026-11-23",
)
_RESPONSES = Dialect(
    name="openai-responses",
    base=("input_tokens", "output_tokens"),
    prompt=_at("input_tokens"),
    completion=_at("output_tokens"),
    cached=_at("input_tokens_details.cached_tokens"),
    cache_write=_at("input_tokens_details.cache_write_tokens"),
    reasoning=_at("output_tokens_details.reasoning_tokens"),
    source="https://github.com/openai/openai-python src/openai/types/responses/response_usage.py, 2026-11-23",
)
_EITHER = replace(
    _CHAT,
    base=_CHAT.base + _RESPONSES.base,
    prompt=_CHAT.prompt + _RESPONSES.prompt,
    completion=_CHAT.completion + _RESPONSES.completion,
    cached=_CHAT.cached + _RESPONSES.cached,
    cache_write=_CHAT.cache_write + _RESPONSES.cache_write,
    reasoning=_CHAT.reasoning + _RESPONSES.reasoning,
)

DIALECTS: tuple[Dialect, ...] = (
    # Told by markers of their own, the narrower first.
    replace(
        _CHAT,
        name="xai-chat",
        markers=_at("cost_in_usd_ticks", "num_sources_used"),
        providers=("xai",),
        cached_in_prompt="unsure",
        reasoning_in_completion="outside",
        cost=("cost_in_usd_ticks",),
        cost_units_per_usd=1e10,
        cost_zero=False,  # Azure passes the field on and leaves it at 0, whatever Azure charges
        source="https://docs.x.ai/developers/cost-tracking, "
        "https://docs.x.ai/docs/key-information/consumption-and-rate-limits, 2026-11-23",
    ),
    replace(
        _RESPONSES,
        name="xai-responses",
        markers=_at("cost_in_usd_ticks", "num_sources_used", "num_server_side_tools_used"),
        providers=("xai",),
        cached_in_prompt="unsure",
        cost=("cost_in_usd_ticks",),
        cost_units_per_usd=1e10,
        cost_zero=False,
        source="https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing, 2026-11-23",
    ),
    replace(
        _EITHER,
        name="vercel-gateway",
        markers=_at("market_cost"),
        providers=("vercel", "vercel-gateway"),
        cached_in_prompt="unsure",
        cache_write=_at("cache_creation_input_tokens") + _EITHER.cache_write,
        cost=("cost",),
        source="recorded responses of ai-gateway.vercel.sh, 2026-11-23",
    ),
    replace(
        _EITHER,
        name="perplexity",
        markers=_at("cost.total_cost", "search_context_size", "num_search_queries", "citation_tokens"),
        providers=("perplexity",),
        cached=_EITHER.cached + _at("input_tokens_details.cache_read_input_tokens"),
        cache_write=_EITHER.cache_write + _at("input_tokens_details.cache_creation_input_tokens"),
        cost=("cost", "total_cost"),
        source="https://schemas.apis.io/schemas/perplexity/perplexity-usageinfo/, "
        "https://github.com/langchain-ai/langchain/pull/39923, 2026-11-23",
    ),
    replace(
        _EITHER,
        name="openrouter",
        markers=_at("cost", "cost_details", "is_byok"),
        providers=("openrouter",),
        cached_in_prompt="unsure",
        cost=("cost",),
        cost_byok=("cost_details", "upstream_inference_cost"),
        source="https://openrouter.ai/docs/use-cases/usage-accounting, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="deepseek",
        markers=_at("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
        providers=("deepseek",),
        cached=_CHAT.cached + _at("prompt_cache_hit_tokens"),
        source="https://api-docs.deepseek.com/guides/kv_cache/, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="mistral",
        markers=_at("num_cached_tokens", "prompt_token_details"),
        providers=("mistral",),
        cached_in_prompt="unsure",
        cached=_at("num_cached_tokens", "prompt_token_details.cached_tokens") + _CHAT.cached,
        source="recorded responses of api.mistral.ai; "
        "https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="databricks",
        markers=_at("cache_read_input_tokens", "cache_creation_input_tokens"),
        providers=("databricks",),
        cached_in_prompt="unsure",
        write_with_cached=True,
        cached=_at("cache_read_input_tokens") + _CHAT.cached,
        cache_write=_at("cache_creation_input_tokens", "prompt_tokens_details.cache_creation_tokens")
        + _CHAT.cache_write,
        source="https://github.com/databricks/databricks-ai-bridge/issues/446, "
        "https://docs.litellm.ai/docs/completion/prompt_caching, 2026-11-23",
    ),
    replace(
        _RESPONSES,
        name="anthropic",
        markers=_at("cache_read_input_tokens", "cache_creation_input_tokens"),
        providers=("anthropic",),
        cached_in_prompt="outside",
        write_with_cached=True,
        cached=_at("cache_read_input_tokens"),
        cache_write=_at("cache_creation_input_tokens"),
        source="https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching "
        "as quoted in https://github.com/infiniflow/ragflow/pull/17629, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="alibaba",
        markers=_at("prompt_tokens_details.cache_creation_input_tokens", "prompt_tokens_details.cache_type"),
        providers=("alibaba",),
        cache_write=_at("prompt_tokens_details.cache_creation_input_tokens"),
        source="https://help.aliyun.com/en/model-studio/context-cache, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="gemini",
        markers=_at("traffic_type", "promptTokensDetails"),
        providers=("gemini", "google", "vertex"),
        reasoning_in_completion="outside",
        output_from_total=True,
        source="https://github.com/mozilla-ai/any-llm/issues/1290, "
        "https://github.com/openai/openai-python/issues/2544, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="groq",
        markers=_at("queue_time", "prompt_time", "completion_time"),
        providers=("groq",),
        source="https://console.groq.com/docs/prompt-caching, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="moonshot",
        markers=_at("cached_tokens"),
        providers=("moonshot", "together"),
        cached=_CHAT.cached + _at("cached_tokens"),
        source="https://github.com/Bike4Mind/bike4mind/pull/1089 (both spellings, inside prompt), "
        "https://github.com/earendil-works/pi/issues/2017 (in choices[0].usage), 2026-11-23",
    ),
    replace(
        _CHAT,
        name="embeddings",
        base=("prompt_tokens",),
        lacks="completion_tokens",
        providers=(),
        source="https://github.com/openai/openai-python src/openai/types/create_embedding_response.py, 2026-11-23",
    ),
    # Without markers: the provider chooses, else the first whose keys fit and that names no provider.
    _CHAT,
    replace(
        _CHAT,
        name="azure",
        providers=("azure",),
        cached_in_prompt="unsure",  # Azure serves other makers' models in the same words
        source="https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/prompt-caching, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="bedrock",
        providers=("bedrock",),
        source="recorded responses of bedrock-runtime and bedrock-mantle, 2026-11-23",
    ),
    replace(
        _CHAT,
        name="vllm",
        providers=("vllm", "sglang"),
        source="https://github.com/vllm-project/vllm/issues/16162 (details are optional), 2026-11-23",
    ),
    _RESPONSES,
    replace(
        _CHAT,
        name="openai-compatible",
        base=(*_CHAT.base, "total_tokens"),
        providers=(),
        cached_in_prompt="unsure",
        source="recorded responses of 20 kinds of servers, 2026-11-23",
    ),
)
"""Every dialect, in the order in which they are tried."""

_MARKED = tuple(row for row in DIALECTS if row.markers or row.lacks)
_BY_PROVIDER: dict[str, tuple[Dialect, ...]] = {
    provider: tuple(row for row in DIALECTS if provider in row.providers)
    for row in DIALECTS
    for provider in row.providers
}
_DEFAULTS = tuple(row for row in DIALECTS if not (row.markers or row.lacks or row.providers))


def locate_usage(payload: object) -> object | None:
    """Find where a response, a stream's chunk or an event keeps its usage.

    Looks at ``.usage``, then ``.x_groq.usage`` (Groq's last chunk), ``.choices[0].usage`` (Moonshot's), and
    ``.response.usage`` (events of the Responses API), in models of the SDK and in plain dicts. It is called
    for every chunk on the caller's thread, so it reads the models' own dictionaries: a missing attribute of a
    pydantic model costs a microsecond to raise.

    Returns:
        The usage as it is, an SDK object or a dict; None where there is none or it is empty. Never raises on
        a response of the SDK, never blocks.
    """
    extra: Any = None
    if type(payload) is dict:
        fields: Any = payload
    else:
        fields = getattr(payload, "__dict__", None)
        if fields is None:
            return _object(getattr(payload, "usage", None))
        extra = getattr(payload, "__pydantic_extra__", None)
    usage = fields.get("usage")
    if usage is not None:
        return _object(usage)
    holder = None
    if extra:
        if (usage := extra.get("usage")) is not None:
            return _object(usage)
        holder = extra.get("x_groq")
    if holder is None:
        holder = fields.get("x_groq")
    if holder is not None and (usage := _object(_member(holder, "usage"))) is not None:
        return usage
    choices = fields.get("choices")
    holder = choices[0] if choices and type(choices) is list else fields.get("response")
    if holder is not None:
        return _object(_member(holder, "usage"))
    if extra is None and fields is not payload:  # no model of pydantic 2, so asking is cheap
        return _object(getattr(payload, "usage", None))
    return None


def plain(obj: object) -> dict[str, Any] | None:
    """Turn a usage into plain data that JSONB can hold: exactly the fields the server sent.

    Returns:
        A new dict (of a pydantic model, version 1 or 2: the fields that were set and the extra ones); None
        where ``obj`` is neither model nor mapping. What JSONB cannot hold becomes text; nesting stops at
        eight levels. Never raises, never blocks.
    """
    try:
        return _plain_object(obj, 1)
    except Exception:
        return None


def read_usage(raw: Mapping[str, Any] | None, *, provider: str | None = None) -> TokenUsage:
    """Read a usage in whichever dialect it is written.

    The shape chooses the row of :data:`DIALECTS`; ``provider`` only breaks the tie between rows that fit
    equally well. Numbers that are no sound token counts (text, negative, fractions, over 2,147,483,647) are
    taken as not reported and flagged. Then the counts are normalised: see ``docs/dialects.md``.

    Args:
        raw: The usage as :func:`plain` gives it, or None.
        provider: Who was called, such as ``openai`` or ``mistral``.

    Returns:
        The usage in our words; :data:`NO_USAGE` for None. Never raises on malformed content, never blocks.
    """
    if not isinstance(raw, Mapping):
        return NO_USAGE
    row = _choose(raw, provider)
    if row is None:
        return TokenUsage(dialect="unknown")
    flags: list[str] = []
    counts = _Counts(
        prompt=_count(raw, row.prompt, flags),
        completion=_count(raw, row.completion, flags),
        total=_count(raw, row.total, flags),
        cached=_count(raw, row.cached, flags),
        write=_count(raw, row.cache_write, flags),
        reasoning=_count(raw, row.reasoning, flags),
    )
    cost = _cost(raw, row, flags)
    _settle(counts, row, flags)
    return TokenUsage(
        prompt_tokens=counts.prompt,
        completion_tokens=counts.completion,
        total_tokens=counts.total,
        cached_tokens=counts.cached,
        cache_write_tokens=counts.write,
        reasoning_tokens=counts.reasoning,
        provider_cost_usd=cost,
        anomaly=",".join(dict.fromkeys(flags)) or None,
        dialect=row.name,
    )


@dataclass(slots=True)
class _Counts:
    prompt: int | None
    completion: int | None
    total: int | None
    cached: int | None
    write: int | None
    reasoning: int | None


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


def _settle(counts: _Counts, row: Dialect, flags: list[str]) -> None:
    """Make prompt the whole input and completion the whole output, as far as numbers or the row prove it."""
    reasoning = counts.reasoning or 0
    # What stands outside prompt, if cached tokens do.
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
        # A hit rate over 1 must not come of it: the split is dropped here and stays in the raw usage.
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
        value = _get(raw, path)
        if value is None:
            continue
        if type(value) is float and value.is_integer():  # some encoders know no other numbers
            value = int(value)
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
    cost = _amount(_get(raw, row.cost), flags)
    if cost is None or (cost == 0 and not row.cost_zero):
        return None
    if row.cost_byok is not None and raw.get("is_byok") is True:
        cost += _amount(_get(raw, row.cost_byok), flags) or 0.0
    return cost / row.cost_units_per_usd


def _amount(value: object, flags: list[str]) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
        flags.append("malformed")
        return None
    return float(value)  # type: ignore[arg-type]


def _get(raw: Mapping[str, Any], path: Path) -> object:
    value: Any = raw
    for key in path:
        if type(value) is not dict and not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _has(raw: Mapping[str, Any], path: Path) -> bool:
    parent = _get(raw, path[:-1])
    return isinstance(parent, Mapping) and path[-1] in parent


def _object(usage: object) -> object | None:
    if not usage or isinstance(usage, (str, bytes, int, float, list, tuple)):
        return None
    if getattr(usage, "__pydantic_fields_set__", True) or getattr(usage, "__pydantic_extra__", None):
        return usage
    return None  # the model of an empty object


def _member(obj: object, name: str) -> object | None:
    if type(obj) is dict:
        return obj.get(name)
    fields = getattr(obj, "__dict__", None)
    if fields is None:
        return None
    value = fields.get(name)
    if value is None and (extra := getattr(obj, "__pydantic_extra__", None)):
        value = extra.get(name)
    return value  # type: ignore[no-any-return]


def _plain_object(obj: Any, depth: int) -> dict[str, Any] | None:
    """A mapping, or what was set in a pydantic model, as plain data; None for anything else."""
    if type(obj) is dict:
        return _plain_dict(obj, depth)
    sent = getattr(obj, "__pydantic_fields_set__", None)
    if type(sent) is set:
        out = {name: _plain_value(value, depth) for name, value in obj.__dict__.items() if name in sent}
        if extra := getattr(obj, "__pydantic_extra__", None):
            out.update(_plain_dict(extra, depth))
        return out
    sent = getattr(obj, "__fields_set__", None)  # version 1 keeps the extra fields among the others
    if type(sent) is set:
        return _plain_dict({name: value for name, value in obj.__dict__.items() if name in sent}, depth)
    return _plain_dict(obj, depth) if isinstance(obj, Mapping) else None


def _plain_dict(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        key if type(key) is str and key.isidentifier() else _text(str(key)): _plain_value(value, depth)
        for key, value in fields.items()
    }


def _plain_value(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, depth + 1) for item in value]
    nested = _plain_object(value, depth + 1)
    return _text(str(value)) if nested is None else nested


def _text(value: str) -> str:
    """``value`` without what PostgreSQL refuses in text: NUL and lone surrogates."""
    if value.isascii():
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")

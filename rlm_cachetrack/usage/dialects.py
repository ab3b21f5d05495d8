"""The dialects of usage: one row per kind of server. To support a new dialect, add a row.

The rules that read them are in :mod:`.reading`; the evidence for each row is in ``docs/dialects.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The usage fields of one kind of server, and the tokens that they include.

    Attributes:
        name: The name of the dialect, also in ``docs/dialects.md``.
        base: Keys of which the usage must have at least one.
        lacks: A key that the usage must not have.
        markers: Paths that only this dialect has; the usage must have at least one, if any are given.
        providers: Providers whose usages this row reads if no marker selects a row.
        prompt: Paths of the count, as in the five fields below. The first value that is not 0 counts, because a server
            with two spellings leaves one at its default. Paths of cached and written tokens of all other rows are
            tried last, because gateways add their own markers to the usage of the server behind them.
        cached_in_prompt: ``inside`` (documented: cached tokens cannot exceed the prompt), ``outside`` (documented),
            ``unsure`` (both occur: if cached tokens exceed the prompt, they are added to it).
        write_with_cached: If cached tokens are outside prompt, so are written tokens.
        reasoning_in_completion: Whether completion includes reasoning, for usages without a total.
        output_from_total: The total includes output that no field lists, so completion is total minus prompt.
        cost: The path of the cost that the provider returns.
        cost_units_per_usd: The number of cost units in one USD.
        cost_zero: False if a cost of 0 means "not metered".
        cost_byok: The path of the additional cost if ``is_byok`` is true, which means that the upstream key is the
            caller's own.
        source: The sources of the row, and the date on which they were read.
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
        """Return True if ``raw`` has the keys of the row, and one of its markers if it has any."""
        if self.markers:
            for path in self.markers:
                if path[0] in raw and (len(path) == 1 or has_path(raw, path)):
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
    base=("input_tokens", "output_tokens", "seconds", "billable_audio_seconds"),
    prompt=_at("input_tokens"),
    completion=_at("output_tokens"),
    cached=_at("input_tokens_details.cached_tokens", "input_token_details.cached_tokens"),
    cache_write=_at("input_tokens_details.cache_write_tokens"),
    reasoning=_at("output_tokens_details.reasoning_tokens"),
    source="https://github.com/openai/openai-python src/openai/types/responses/response_usage.py, "
    "realtime/realtime_response_usage.py, 2026-12-01",
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

_ROWS: tuple[Dialect, ...] = (
    # Selected by markers, the most specific first.
    replace(
        _EITHER,  # as LiteLLM's callback gets it; `response_cost` is added by our integration
        name="litellm",
        base=(*_EITHER.base, "response_cost"),
        markers=_at("response_cost"),
        providers=(),
        cached_in_prompt="unsure",
        write_with_cached=True,
        cost=("response_cost",),
        cost_zero=False,
        source="https://docs.litellm.ai/docs/completion/prompt_caching, "
        "litellm/types/utils.py of LiteLLM 1.110.2, 2026-12-01",
    ),
    replace(
        _CHAT,
        name="xai-chat",
        markers=_at("cost_in_usd_ticks", "num_sources_used"),
        providers=("xai",),
        cached_in_prompt="unsure",
        reasoning_in_completion="outside",
        cost=("cost_in_usd_ticks",),
        cost_units_per_usd=1e10,
        cost_zero=False,  # Azure returns this field as 0, even if it charges for writes
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
    replace(
        _CHAT,
        name="voyage",
        base=("total_tokens",),
        providers=("voyageai", "voyage"),
        prompt=_at("prompt_tokens", "total_tokens"),
        source="https://docs.voyageai.com/reference/embeddings-api (usage), 2026-12-02",
    ),
    # Rows without markers: selected by provider; otherwise the first row without providers whose keys fit.
    _CHAT,
    replace(
        _CHAT,
        name="azure",
        providers=("azure",),
        cached_in_prompt="unsure",  # Azure serves models of other vendors in the same format
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
    replace(
        _RESPONSES,  # some gateways send the fields of both APIs, one set of them as 0
        prompt=_RESPONSES.prompt + _CHAT.prompt,
        completion=_RESPONSES.completion + _CHAT.completion,
        reasoning=_RESPONSES.reasoning + _CHAT.reasoning,
    ),
    replace(
        _CHAT,
        name="openai-compatible",
        base=(*_CHAT.base, "total_tokens"),
        providers=(),
        cached_in_prompt="unsure",
        source="recorded responses of 20 kinds of servers, 2026-11-23",
    ),
)


def _with_all_spellings(rows: tuple[Dialect, ...]) -> tuple[Dialect, ...]:
    """Return the rows with the cached and written paths of all other rows after their own.

    A gateway adds its own markers to the usage of the server behind it, so the markers can select one row and the
    counts can use the paths of another. OpenAI's paths are tried first, because other servers imitate them, then those
    of the other rows in their order.
    """
    every = (_CHAT, _RESPONSES, *rows)
    cached = [path for row in every for path in row.cached]
    written = [path for row in every for path in row.cache_write]
    return tuple(
        replace(
            row,
            cached=tuple(dict.fromkeys((*row.cached, *cached))),
            cache_write=tuple(dict.fromkeys((*row.cache_write, *written))),
        )
        for row in rows
    )


DIALECTS: tuple[Dialect, ...] = _with_all_spellings(_ROWS)
"""All dialects in the order in which they are tried."""


def get_path(raw: Mapping[str, Any], path: Path) -> object:
    """Return the value at ``path``; None if there is none."""
    value: Any = raw
    for key in path:
        if type(value) is not dict and not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def has_path(raw: Mapping[str, Any], path: Path) -> bool:
    """Return True if ``path`` exists, even with the value null."""
    parent = get_path(raw, path[:-1])
    return isinstance(parent, Mapping) and path[-1] in parent

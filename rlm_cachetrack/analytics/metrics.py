"""Metrics of today's calls in the text format of Prometheus.

Names follow OpenTelemetry's conventions for generative AI where they exist, written as Prometheus writes them:
``gen_ai.client.token.usage`` and ``gen_ai.client.operation.duration``, with ``gen_ai.provider.name``,
``gen_ai.response.model`` and ``gen_ai.token.type``.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics, 2026-12-01.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.errors import ConfigError

from .usage_groups import usage_groups

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from rlm_cachetrack.store import PostgresStore

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the text."""

_LABELS = ("gen_ai_provider_name", "gen_ai_response_model")
_TOKENS = {
    "input": "total_prompt_tokens",
    "output": "total_completion_tokens",
    "input_cached": "total_cached_tokens",
    "input_cache_write": "total_cache_write_tokens",
}
_COUNTERS = {
    "rlm_cachetrack_calls": ("total_interactions", "Model calls."),
    "rlm_cachetrack_failed_calls": ("failed_interactions", "Failed model calls."),
    "rlm_cachetrack_unpriced_calls": ("unpriced_interactions", "Model calls whose cost is not known."),
    "rlm_cachetrack_cost_usd": ("total_cost", "Cost of the priced calls in USD."),
    "rlm_cachetrack_saved_usd": ("cost_savings", "What the prompt cache saved, in USD."),
}


def prometheus_text(store: PostgresStore, now: datetime | None = None) -> str:
    """Return the metrics of the calls since midnight UTC. Blocks for one query.

    Counters restart at midnight, which Prometheus' ``rate`` and ``increase`` take into account.

    Args:
        store: The store to read.
        now: The current time; None: the system clock's.

    Raises:
        ConfigError: The package ``prometheus-client`` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as exc:
        raise ConfigError("metrics need prometheus-client: pip install 'rlm_cachetrack[metrics]'") from exc
    midnight = (now or datetime.now(UTC)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = usage_groups(store, ("provider", "model"), since=midnight)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(rows))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; called by ``prometheus_client``."""
        from prometheus_client.core import CounterMetricFamily

        tokens = CounterMetricFamily(
            "gen_ai_client_token_usage",
            "Tokens used. input includes input_cached and input_cache_write.",
            labels=(*_LABELS, "gen_ai_token_type"),
        )
        for row in self._rows:
            for kind, column in _TOKENS.items():
                if row[column] is not None:  # no call reported it, for example because all failed
                    tokens.add_metric((*_names(row), kind), row[column])
        yield tokens
        for name, (column, words) in _COUNTERS.items():
            counter = CounterMetricFamily(name, words, labels=_LABELS)
            for row in self._rows:
                if row[column] is not None:
                    counter.add_metric(_names(row), row[column])
            yield counter
        seconds = CounterMetricFamily(
            "gen_ai_client_operation_duration_seconds",
            "Total time spent in model calls: mean duration multiplied by the number of calls.",
            labels=_LABELS,
        )
        for row in self._rows:
            if row["avg_duration_ms"] is not None:
                seconds.add_metric(_names(row), row["avg_duration_ms"] * row["total_interactions"] / 1000)
        yield seconds


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["provider"] or "unknown", row["model"]

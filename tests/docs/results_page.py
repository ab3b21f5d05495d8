"""Write ``docs/reference/results.md``: every key of every result of the client, from the types.

The types give keys and their types, ``result_keys.yaml`` their meanings.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .result_types import keys_of, result_types, typed_dicts

MEANINGS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("result_keys.yaml").read_text(encoding="utf-8"))

HEAD = """\
# Results

What the methods of [`TimescaleDBClient`](client.md) and of a run return: dictionaries with these keys, all present in
every result, and lists of them. Lists are `Table`s: they render in a notebook and have `to_pandas()`.

NULL in the database is `None` here: *not known* or *not reported*, never zero. Rates are 0-1, percentages 0-100, costs
in USD, durations in milliseconds. Points in time are aware datetimes. Sums of costs cover the priced calls.

Generated from the types by `make pages`; a test fails if this page is out of date.
"""
RUN_SUMMARY = {
    "query_id": "str",
    "run_id": "datetime",
    "start_time": "datetime",
    "end_time": "datetime | None",
    "status": "str",
    "metadata": "Any",
    "state": "str",
    "duration_ms": "float | None",
    "success": "bool | None",
    "score": "float | None",
    "outcome_label": "str | None",
    "tags": "dict[str, str] | None",
    "total_interactions": "int",
    "failed_interactions": "int",
    "total_prompt_tokens": "int",
    "total_completion_tokens": "int",
    "total_tokens": "int",
    "total_cached_tokens": "int",
    "cache_hit_rate": "float | None",
    "total_cost": "float | None",
    "cost_savings": "float | None",
    "avg_duration_ms": "float | None",
    "p50_duration_ms": "float | None",
    "p95_duration_ms": "float | None",
    "p99_duration_ms": "float | None",
    "dropped_interactions": "int",
}
"""The keys of ``get_query_run_summary``, which has no type of its own; a test compares them with a result."""

CALLS = """
## Rows of calls { #calls }

Returned by `get_llm_interactions`: one dictionary per call, keyed by the columns of `llm_interactions`.
[`LLMInteractionRecord`](recording.md) describes them.
"""
RUN = """
## Summary of a run { #run }

Returned by `get_query_run_summary`.
"""
_RETURNED_AS_DICT = {"UsageGroup": ["TimescaleDBClient.get_usage"]}  # plus a key for each grouping


def meaning(result: str, key: str) -> str | None:
    """Return what a key of a result means."""
    return MEANINGS.get(f"{result}.{key}", MEANINGS.get(key))


def _text(docstring: str) -> str:
    """Return the prose of a docstring as Markdown, without the attributes, which the table has."""
    prose = docstring.partition("\nAttributes:")[0].strip()
    prose = re.sub(r":\w+:`~?\.?(?:\w+\.)*(\w+)`", r"`\1`", prose)
    return prose.replace("``", "`")


def _linked(annotation: str, known: dict[str, Any]) -> str:
    """Return the text of a type, with a link to the type that it names."""
    for name in re.findall(r"\w+", annotation):
        if name in known:
            return f"[`{annotation}`](#{name.lower()})".replace("|", "\\|")
    return f"`{annotation}`".replace("|", "\\|")


def render() -> str:
    """Return the page."""
    known = typed_dicts()
    parts = [HEAD]
    for name, returned_by in {**result_types(), **_RETURNED_AS_DICT}.items():
        parts.append(f"\n## {name} {{ #{name.lower()} }}\n")
        parts.append(f"\n{_text(inspect.getdoc(known[name]) or '')}\n")
        if returned_by:
            methods = ", ".join(f"`{method.replace('QueryRun', 'run')}`" for method in returned_by)
            parts.append(f"\nReturned by {methods.replace('TimescaleDBClient.', '')}.\n")
        parts.extend(_table(name, keys_of(known[name]), known))
    parts += [RUN, *_table("RunSummary", RUN_SUMMARY, known), CALLS]
    return "".join(parts)


def _table(name: str, keys: dict[str, str], known: dict[str, Any]) -> Iterator[str]:
    yield "\n| key | type | meaning |\n|---|---|---|\n"
    for key, annotation in keys.items():
        yield f"| `{key}` | {_linked(annotation, known)} | {meaning(name, key)} |\n"

"""Rows of calls are stored unchanged: psycopg encodes every column by its type."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from rlm_cachetrack.pipeline.rows import RowBuilder
from rlm_cachetrack.records import COLUMNS, JSON_COLUMNS
from tests.integration.pipeline.test_writer import pipeline
from tests.unit.pipeline.test_rows import CALLS, RUN_CONTEXT, decoded, line


def lines_of_every_kind() -> Iterator[bytes]:
    """Yield journal lines that cover every variation of a call."""
    rng = random.Random(3)
    for number in range(400):
        more: dict[str, Any] = {}
        for some in rng.sample(CALLS, 3):
            more.update(some)
        run_context = {**more.pop("run_context", RUN_CONTEXT), "iteration": number}
        if number % 7 == 0:
            run_context["query_id"] = "other"
        yield line(run_context=run_context, **more)


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(value) if name in JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }


def test_rows_of_calls_are_stored_unchanged(reused_db_url: str) -> None:
    lines = list(lines_of_every_kind())
    with pipeline(reused_db_url) as runtime:
        for written in lines:
            runtime.journal.append(written)
        assert runtime.flush(120)
        assert runtime.dead_letters.read() == []
        builder = RowBuilder(runtime.price_book())
    built = [dict(zip(COLUMNS, builder.row(decoded(written)), strict=True)) for written in lines]
    with psycopg.connect(reused_db_url, row_factory=dict_row) as connection:
        stored = connection.execute("SELECT * FROM llm_interactions ORDER BY iteration").fetchall()
    assert list(map(comparable, stored)) == list(map(comparable, built))

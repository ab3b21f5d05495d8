"""Named queries and migrations: fragments are expanded, and each fragment is used at least twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import rlm_cachetrack
from rlm_cachetrack.store import named_sql

QUERIES = sorted((named_sql.schema_dir() / "queries").glob("*.sql"))
FRAGMENTS = sorted((named_sql.schema_dir() / "queries" / "fragments").glob("*.sql"))
ENGINES = ("core", "postgresql", "timescale", "citus", "upgrade")


@pytest.mark.parametrize("name", [path.stem for path in QUERIES])
def test_every_include_of_a_query_is_expanded(name: str) -> None:
    assert "include:" not in named_sql.query(name)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_include_of_a_migration_is_expanded(engine: str) -> None:
    assert [script.label for script in named_sql.scripts(engine) if "include:" in script.sql] == []


def test_an_included_fragment_keeps_the_rest_of_the_line_and_its_indentation() -> None:
    lines = named_sql.query("run_records").splitlines()
    first = lines.index("    CASE")
    assert lines[first + 1].startswith("        WHEN status <> 'running'")
    assert lines[first + 4] == "    END AS state,"


def test_every_fragment_is_included_at_least_twice() -> None:
    included = Counter(
        name
        for path in named_sql.schema_dir().rglob("*.sql")
        for name in re.findall(r"include: fragments/(\w+)\.sql", path.read_text())
    )
    assert set(included) == {path.stem for path in FRAGMENTS}
    assert [name for name, count in included.items() if count < 2] == []


def test_every_query_is_used() -> None:
    code = "".join(path.read_text() for path in Path(rlm_cachetrack.__file__).parent.rglob("*.py"))
    assert [path.stem for path in QUERIES if f'"{path.stem}"' not in code] == []


def test_every_header_names_its_file() -> None:
    assert [path.name for path in (*QUERIES, *FRAGMENTS) if not path.read_text().startswith(f"-- {path.stem}: ")] == []

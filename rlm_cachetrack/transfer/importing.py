"""Import the calls of a file into a store, a few at a time, so that memory use does not grow with their number.

Calls are stored directly, without the journal: after a failure, importing the file again stores each call once.
A run that an import creates has the status ``imported``; the status of a known run does not change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from rlm_cachetrack.errors import ConfigError

from .agent_sessions import AGENTS, Agent, SessionCall, read_session, session_files
from .batch_totals import BatchCalls, batch_id_in
from .import_formats import EventReader, InvalidLineError
from .source_files import open_lines

if TYPE_CHECKING:
    from rlm_cachetrack.fingerprint import Fingerprints
    from rlm_cachetrack.store import PostgresStore

IMPORTED = "imported"
"""The status of a run that an import created."""

_MAX_WAITING_CALLS = 2_000
_MAX_WAITING_CHARACTERS = 2_000_000
_MAX_REASONS = 100


class Rejected(NamedTuple):
    """A line that was not imported.

    Attributes:
        line: The line number, from 1.
        reason: The reason, without content of the line.
    """

    line: int
    reason: str


@dataclass(slots=True)
class Imported:
    """The result of importing a file.

    Attributes:
        read: Lines with content.
        stored: Calls of the file that are in the store now.
        added: Calls that were not in the store before.
        rejected: Lines that were not imported.
        reasons: The first hundred rejected lines, with the reason.
        reject_file: The file that contains the rejected lines; None if there are none.
    """

    read: int = 0
    stored: int = 0
    added: int = 0
    rejected: int = 0
    reasons: list[Rejected] = field(default_factory=list)
    reject_file: Path | None = None


class Importer(Protocol):
    """Stores events without a journal, for example the pipeline of a store.

    Attributes:
        fingerprints: Hashes prompts; None: calls have no fingerprints.
    """

    fingerprints: Fingerprints | None

    def store(self) -> PostgresStore:
        """Return the store."""

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Store events. Returns the reason for each event that cannot be stored, by its index."""


class _ReadCall(NamedTuple):
    line: int
    text: str
    event: dict[str, Any]


def import_file(
    importer: Importer,
    path: Path,
    *,
    query_id: str | None = None,
    run_id: datetime | None = None,
    reject_file: Path | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Store the calls of a file; calls that are already stored are skipped. Blocks.

    Args:
        importer: The pipeline of the store.
        path: JSON lines, a JSON array, CSV or Parquet, also compressed with gzip.
        query_id: The query of calls without one. Default: the file's name without its suffix.
        run_id: The run of calls without one. Default: the time of the first such call.
        reject_file: Receives the lines that cannot be imported, unchanged. Default: ``FILE.rejected``.
        progress: Called with the number of bytes read so far, every few hundred lines.

    Raises:
        ConfigError: The file cannot be read, or it is Parquet and pyarrow is not installed.
        StoreError: The database failed. Calls stored so far stay; import the file again to continue.
    """
    result = Imported()
    batch_id = batch_id_in(path.name)
    reader, batch = EventReader(query_id or _stem(path), run_id, _changed(path), batch_id), BatchCalls(batch_id)
    rejects = _Rejects(result, reject_file or path.with_name(f"{path.name}.rejected"))
    waiting: list[_ReadCall] = []
    characters = 0
    importer.store().open()
    with ExitStack() as stack:
        stack.callback(rejects.close)
        for line in stack.enter_context(open_lines(path, progress)):
            result.read += 1
            try:
                if line.problem:
                    raise InvalidLineError(line.problem)
                event = reader.event(line.value, line.text)
                batch.add(event)
                waiting.append(_ReadCall(line.number, line.text, event))
                characters += len(line.text)
            except InvalidLineError as exc:
                rejects.add(line.number, line.text, str(exc))
            if len(waiting) >= _MAX_WAITING_CALLS or characters >= _MAX_WAITING_CHARACTERS:
                _store(importer, waiting, result, rejects)
                waiting, characters = [], 0
        _store(importer, waiting, result, rejects)
    batch.replace_total(importer)
    return result


def import_sessions(
    importer: Importer, agent: Agent, path: Path | None = None, *, query_id: str | None = None
) -> list[tuple[Path, Imported]]:
    """Store the model calls of Codex CLI's or Claude Code's session files, a run for each session. Blocks.

    Prompts are fingerprinted under the key of this installation, as those of recorded calls, and not stored. Calls that
    are already stored are skipped.

    Args:
        importer: The pipeline of the store.
        agent: ``codex`` or ``claude-code``.
        path: A session file, or a folder; None: the program's own folder.
        query_id: The query of the runs; None: the program and the name of the project's folder.

    Returns:
        Each file with its result.

    Raises:
        ConfigError: There is no session file.
        StoreError: The database failed. Calls stored so far stay.
    """
    files = session_files(agent, path)
    if not files:
        raise ConfigError(f"{path or AGENTS[agent][0]} contains no session of {agent} ({AGENTS[agent][1]})")
    importer.store().open()
    seen: set[str] = set()
    return [(file, _import_session(importer, agent, file, seen, query_id)) for file in files]


def _import_session(importer: Importer, agent: Agent, path: Path, seen: set[str], query_id: str | None) -> Imported:
    result = Imported()
    rejects = _Rejects(result, path.with_name(f"{path.name}.rejected"))
    waiting: list[_ReadCall] = []
    for call in read_session(agent, path, seen, query_id):
        result.read += 1
        _add_fingerprint(importer, call)
        waiting.append(_ReadCall(result.read, "", call.event))
        if len(waiting) >= _MAX_WAITING_CALLS:
            _store(importer, waiting, result, rejects)
            waiting = []
    _store(importer, waiting, result, rejects)
    return result


def _add_fingerprint(importer: Importer, call: SessionCall) -> None:
    fingerprints = importer.fingerprints
    if fingerprints is None:
        return
    run = json.dumps({"query_id": call.event["query_id"], "run_id": call.event["run_id"]})
    fingerprints.add(call.number, call.api, run, call.body, None, 0, None)
    hashed = fingerprints.get(call.number)
    fingerprints.discard_stored()
    if hashed is not None:
        call.event["fingerprint"] = hashed.fingerprint.hex()


def _changed(path: Path) -> datetime:
    """Return the modification time of a file, so that importing it again gives the same times."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:  # reported when it is opened
        return datetime.now(UTC)


def _stem(path: Path) -> str:
    """Return a file's name without its suffixes, such as ``.jsonl.gz``."""
    name = path.name.removesuffix(".gz") or path.name
    return Path(name).stem


def _store(importer: Importer, calls: Sequence[_ReadCall], result: Imported, rejects: _Rejects) -> None:
    if not calls:
        return
    events = [call.event for call in calls]
    store = importer.store()
    known_before = _count_known(store, events)
    rejected = importer.import_events([*events, *_run_ends(store, events)])
    for index, call in enumerate(calls):
        if index in rejected:
            rejects.add(call.line, call.text, rejected[index])
    stored = [event for index, event in enumerate(events) if index not in rejected]
    result.stored += len(stored)
    result.added += _count_known(store, stored) - known_before


def _count_known(store: PostgresStore, calls: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of these calls that are in the store."""
    rows = store.query(
        "interactions_stored",
        query_ids=[call["query_id"] for call in calls],
        run_ids=[call["run_id"] for call in calls],
        times=[call["time"] for call in calls],
        ids=[call["interaction_id"] for call in calls],
    )
    return int(rows[0]["interactions"])


def _run_ends(store: PostgresStore, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an end event for each run that the import creates, at the time of its last call so far."""
    last: dict[tuple[str, datetime], datetime] = {}
    for call in calls:
        run = call["query_id"], datetime.fromisoformat(call["run_id"])
        end = datetime.fromisoformat(call["end_time"] or call["time"])
        last[run] = max(end, last.get(run, end))
    known = store.query("runs_stored", query_ids=[run[0] for run in last], run_ids=[run[1] for run in last])
    for row in known:
        run = row["query_id"], row["run_id"]
        if row["status"] != IMPORTED:
            last.pop(run, None)
        elif row["end_time"] is not None and run in last:
            last[run] = max(last[run], row["end_time"])
    return [
        {
            "kind": "run_end",
            "query_id": query_id,
            "run_id": run_id.isoformat(),
            "time": end.isoformat(),
            "status": IMPORTED,
        }
        for (query_id, run_id), end in last.items()
    ]


class _Rejects:
    """The file of lines that were not imported; created with the first of them."""

    def __init__(self, result: Imported, path: Path) -> None:
        self._result = result
        self._path = path
        self._file: IO[str] | None = None

    def add(self, number: int, text: str, reason: str) -> None:
        """Write a line unchanged, and count it.

        Raises:
            ConfigError: The file cannot be written.
        """
        self._result.rejected += 1
        if len(self._result.reasons) < _MAX_REASONS:
            self._result.reasons.append(Rejected(number, reason))
        if not text:
            return  # the file is damaged here, so there is no line to write
        if self._file is None:
            try:
                self._file = self._path.open("w", encoding="utf-8", errors="surrogateescape")
            except OSError as exc:
                raise ConfigError(f"the reject file {self._path} cannot be written: {exc.strerror}") from exc
            self._result.reject_file = self._path
        self._file.write(text.rstrip("\n") + "\n")

    def close(self) -> None:
        """Close the file if there is one."""
        if self._file is not None:
            self._file.close()

"""Calls out of the store into a file, and out of files into the store; a few at a time, whatever their number.

An import stores at once, past the journal: the file is the journal, and importing it again stores each call once. A run
that an import makes has the status ``imported``; the status of a run that is known stays.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, Protocol

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.store import PostgresStore

from .export_formats import FORMATS, Format, open_writer
from .import_formats import IMPORTED, Reader, Unusable, own_row_of_csv
from .json_array import elements

__all__ = ["FORMATS", "Format", "Imported", "Importer", "Rejected", "count_exported", "export_calls", "import_file"]

_ROWS = 2_000
_HELD = 2_000_000
"""Characters of lines that wait, at most."""
_BUFFER = 65_536
_KEPT_REASONS = 100


class Rejected(NamedTuple):
    """A line that was not imported: its number, from 1, and why. The reason quotes nothing of the line."""

    line: int
    reason: str


@dataclass(slots=True)
class Imported:
    """What became of a file.

    Attributes:
        read: Lines with content.
        stored: Calls that are in the store now, whether or not they were before.
        added: Those that were not.
        rejected: How many lines were not imported.
        reasons: The first hundred of them.
        reject_file: Where they are, None where there are none.
    """

    read: int = 0
    stored: int = 0
    added: int = 0
    rejected: int = 0
    reasons: list[Rejected] = field(default_factory=list)
    reject_file: Path | None = None


class Importer(Protocol):
    """What stores events at once; the pipeline of a store is one."""

    def store(self) -> PostgresStore:
        """Where they go."""

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Store events; by their index those that cannot be stored, and why."""


# -- export ------------------------------------------------------------------------------------------------------------


def count_exported(store: PostgresStore, **which: Any) -> int:
    """How many calls an export with the same arguments will write. Blocks for one count."""
    return int(store.query("export_count", **_which(**which))[0]["interactions"])


def export_calls(
    store: PostgresStore,
    file: BinaryIO,
    form: Format = "jsonl",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    query_id: str | None = None,
    model: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write calls to ``file``, the oldest first; returns how many. Blocks; memory does not grow with their number.

    Args:
        store: Where they are.
        file: Open for binary writing; stays open.
        form: ``csv``, ``jsonl`` or ``parquet``.
        since: Only calls from this moment on.
        until: Only calls before this moment.
        query_id: Only of this query.
        model: Only of this model.
        progress: Told the count so far, now and then.

    Raises:
        ConfigError: The format is unknown, or pyarrow is missing for Parquet.
        StoreError: The database failed; the file ends in the midst.
    """
    writer = open_writer(form, file)
    done = 0
    for rows in store.stream("export_interactions", _ROWS, **_which(since, until, query_id, model)):
        writer.write({**row, "interaction_id": str(row["interaction_id"])} for row in rows)
        done += len(rows)
        progress(done)
    writer.close()
    return done


def _which(
    since: datetime | None = None,
    until: datetime | None = None,
    query_id: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    return {"since": since, "until": until, "query_id": query_id, "model": model}


# -- import ------------------------------------------------------------------------------------------------------------


def import_file(
    importer: Importer,
    path: Path,
    *,
    query_id: str | None = None,
    run_id: datetime | None = None,
    reject_file: Path | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Store the calls of a file; once each, however often it is imported. Blocks.

    Args:
        importer: The pipeline of the store.
        path: JSON lines, a JSON array, CSV or Parquet, ``.gz`` too.
        query_id: The query of calls that name none. None: the file's name without its ending.
        run_id: Their run. None: the moment of the first of them.
        reject_file: Where lines go that cannot be imported, as they are. None: beside the file.
        progress: Told the bytes read so far, now and then.

    Raises:
        ConfigError: The file cannot be read, or pyarrow is missing for Parquet.
        StoreError: The database failed; what was stored stays, and importing again goes on.
    """
    found = Imported()
    reader = Reader(query_id or _stem(path), run_id)
    rejects = _Rejects(found, reject_file or path.with_name(f"{path.name}.rejected"))
    waiting: list[tuple[int, str, dict[str, Any]]] = []
    held = 0
    importer.store().open()
    with ExitStack() as stack:
        stack.callback(rejects.close)
        for line in stack.enter_context(_lines(path, progress)):
            found.read += 1
            try:
                if line.problem:
                    raise Unusable(line.problem)
                waiting.append((line.number, line.text, reader.event(line.value, line.text)))
                held += len(line.text)
            except Unusable as exc:
                rejects.add(line.number, line.text, str(exc))
            if len(waiting) >= _ROWS or held >= _HELD:
                _store(importer, waiting, found, rejects)
                held = 0
        _store(importer, waiting, found, rejects)
    return found


def _store(
    importer: Importer, waiting: list[tuple[int, str, dict[str, Any]]], found: Imported, rejects: _Rejects
) -> None:
    if not waiting:
        return
    calls = [event for _, _, event in waiting]
    store = importer.store()
    known_before = _known(store, calls)
    refused = importer.import_events([*calls, *_run_ends(store, calls)])
    for index, reason in refused.items():
        if index < len(waiting):
            number, text, _ = waiting[index]
            rejects.add(number, text, reason)
    kept = [call for index, call in enumerate(calls) if index not in refused]
    found.stored += len(kept)
    found.added += _known(store, kept) - known_before
    waiting.clear()


def _known(store: PostgresStore, calls: Sequence[Mapping[str, Any]]) -> int:
    return int(
        store.query(
            "interactions_stored",
            query_ids=[call["query_id"] for call in calls],
            run_ids=[call["run_id"] for call in calls],
            times=[call["time"] for call in calls],
            ids=[call["interaction_id"] for call in calls],
        )[0]["interactions"]
    )


def _run_ends(store: PostgresStore, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ends of the runs that an import makes: with its last call so far."""
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
    """The lines that were not imported, as they are, in a file that is made with the first of them."""

    def __init__(self, found: Imported, path: Path) -> None:
        self._found = found
        self._path = path
        self._file: IO[str] | None = None

    def add(self, number: int, text: str, reason: str) -> None:
        self._found.rejected += 1
        if len(self._found.reasons) < _KEPT_REASONS:
            self._found.reasons.append(Rejected(number, reason))
        if self._file is None:
            try:
                self._file = self._path.open("w", encoding="utf-8", errors="surrogateescape")
            except OSError as exc:
                raise ConfigError(f"the reject file {self._path} cannot be written: {exc.strerror}") from exc
            self._found.reject_file = self._path
        self._file.write(text.rstrip("\n") + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# -- files to lines ----------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    number: int
    text: str
    value: Any = None
    problem: str | None = None


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".gz", path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix):
        name = name.removesuffix(suffix) or name
    return name


@contextmanager
def _lines(path: Path, progress: Callable[[int], object]) -> Iterator[Iterator[_Line]]:
    try:
        raw: BinaryIO = path.open("rb")
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    with raw:
        head = raw.read(4)
        raw.seek(0)
        if head == b"PAR1":
            yield _of_parquet(raw, progress)
            return
        plain: Any = gzip.GzipFile(fileobj=raw) if head[:2] == b"\x1f\x8b" else raw
        try:
            start = plain.peek(1024).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        except (OSError, EOFError) as exc:
            raise ConfigError(f"{path} cannot be read: {exc}") from exc
        if start == b"[":
            yield _of_array(plain, raw, path, progress)
        elif start in (b"{", b""):
            yield _of_json_lines(plain, raw, progress)
        else:
            yield _of_csv(plain, raw, progress)


def _of_json_lines(file: IO[bytes], raw: BinaryIO, progress: Callable[[int], object]) -> Iterator[_Line]:
    for number, line in enumerate(file, 1):
        if number % 500 == 0:
            progress(raw.tell())
        text = line.decode("utf-8", "surrogateescape")
        if not (content := text.strip("\ufeff \t\r\n")):
            continue
        try:
            line.decode("utf-8")
            yield _Line(number, text, json.loads(content))
        except UnicodeDecodeError:
            yield _Line(number, text, problem="not valid UTF-8")
        except (ValueError, RecursionError):
            yield _Line(number, text, problem="not valid JSON")


def _of_array(file: IO[bytes], raw: BinaryIO, path: Path, progress: Callable[[int], object]) -> Iterator[_Line]:
    """A JSON array, an element at a time; an element's place is its number."""
    number = 0
    try:
        for number, value in enumerate(elements(file), 1):
            if number % 500 == 0:
                progress(raw.tell())
            yield _Line(number, json.dumps(value), value)
    except (ValueError, RecursionError, EOFError, OSError) as exc:
        if not number:
            raise ConfigError(f"{path} begins like a JSON array but is none") from exc
        yield _Line(number + 1, "", problem="the JSON array is broken here; nothing after it was read")


def _of_csv(file: IO[bytes], raw: BinaryIO, progress: Callable[[int], object]) -> Iterator[_Line]:
    rows = csv.reader(line.decode("utf-8-sig", "surrogateescape") for line in file)
    head: list[str] | None = None
    number = 1
    while True:
        # A field may hold line breaks: the row's number is that of its first line.
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            yield _Line(number, "", problem=f"not valid CSV: {exc}")
            return
        first, number = number, rows.line_num + 1
        if head is None:
            head = fields
            continue
        if not fields:
            continue
        text = _csv_text(fields)
        if first % 500 == 0:
            progress(raw.tell())
        if len(fields) != len(head):
            yield _Line(first, text, problem=f"{len(fields)} fields where the head has {len(head)}")
            continue
        try:
            yield _Line(first, text, own_row_of_csv(dict(zip(head, fields, strict=True))))
        except Unusable as exc:
            yield _Line(first, text, problem=str(exc))


def _csv_text(fields: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(fields)
    return out.getvalue()


def _of_parquet(file: BinaryIO, progress: Callable[[int], object]) -> Iterator[_Line]:
    try:
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise ConfigError("Parquet needs pyarrow: pip install 'rlm_cachetrack[parquet]'") from exc
    # Pages one after the other, in this thread: a row group at once, whoever wrote it, would be held whole.
    parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    number = 0
    for batch in parquet.iter_batches(batch_size=_ROWS // 8, use_threads=False):
        for row in batch.to_pylist():
            number += 1
            yield _Line(number, json.dumps(row, default=str), row)
        progress(file.tell())

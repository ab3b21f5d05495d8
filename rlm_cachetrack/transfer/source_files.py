"""Read the lines of a file to import: JSON lines, a JSON array, CSV or Parquet, plain or compressed with gzip.

The content determines the format, not the file's name. Memory use does not grow with the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from rlm_cachetrack.errors import ConfigError

from .import_formats import InvalidLineError, own_row_of_csv
from .json_array import elements

_BUFFER_BYTES = 65_536
_PARQUET_ROWS = 250
_PROGRESS_EVERY = 500
_MAX_PAGE_BYTES = 50_000_000
"""The limit of a line, and of a page that spans lines."""
_SHOWN_CHARACTERS = 1_000

Progress = Callable[[int], object]


class Line(NamedTuple):
    """One line of a file, one element of an array, or one row of a table.

    Attributes:
        number: The line number, from 1.
        text: Its text, for the reject file.
        value: The decoded value.
        problem: Why it could not be decoded; None if it was.
    """

    number: int
    text: str
    value: Any = None
    problem: str | None = None


@contextmanager
def open_lines(path: Path, progress: Progress) -> Iterator[Iterator[Line]]:
    """Open a file and iterate over its lines.

    Args:
        path: The file.
        progress: Called with the number of bytes read so far, every few hundred lines.

    Raises:
        ConfigError: The file cannot be read, or it is Parquet and pyarrow is not installed.
    """
    try:
        raw: BinaryIO = path.open("rb")
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc
    with raw:
        head = raw.read(4)
        raw.seek(0)
        if head == b"PAR1":
            yield _parquet_rows(raw, progress)
            return
        plain: Any = gzip.GzipFile(fileobj=raw) if head[:2] == b"\x1f\x8b" else raw
        try:
            start = plain.peek(1024).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        except (OSError, EOFError) as exc:
            raise ConfigError(f"{path} cannot be read: {exc}") from exc
        if start == b"[":
            lines = _array_elements(plain, path)
        elif start in (b"{", b""):
            lines = _json_lines(plain)
        else:
            lines = _csv_rows(plain)
        yield _with_progress(lines, raw, progress)


def _with_progress(lines: Iterator[Line], raw: BinaryIO, progress: Progress) -> Iterator[Line]:
    for count, line in enumerate(lines, 1):
        if count % _PROGRESS_EVERY == 0:
            progress(raw.tell())
        yield line


def _json_lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the values of JSON lines; the elements of ``data`` of a page, which may span lines."""
    first = file.readline(_MAX_PAGE_BYTES)
    if (page := _page(first, file)) is not None:
        for number, value in enumerate(page, 1):
            yield Line(number, json.dumps(value), value)
        return
    for number, line in enumerate(_bounded_lines(first, file), 1):
        text = line.decode("utf-8", "surrogateescape")
        if len(line) == _MAX_PAGE_BYTES:
            yield Line(number, text[:_SHOWN_CHARACTERS], problem=f"longer than {_MAX_PAGE_BYTES} bytes")
            continue
        if not (content := text.strip("\ufeff \t\r\n")):
            continue
        try:
            line.decode("utf-8")
            yield Line(number, text, json.loads(content))
        except UnicodeDecodeError:
            yield Line(number, text, problem="not valid UTF-8")
        except (ValueError, RecursionError):
            yield Line(number, text, problem="not valid JSON")


def _bounded_lines(first: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines; a line that is too long is cut after :data:`_MAX_PAGE_BYTES` bytes."""
    line = first
    while line:
        yield line
        while len(line) == _MAX_PAGE_BYTES and not line.endswith(b"\n"):
            line = file.readline(_MAX_PAGE_BYTES)
        line = file.readline(_MAX_PAGE_BYTES)


def _page(first: bytes, file: IO[bytes]) -> list[Any] | None:
    """Return ``data`` if the file is one page; None for JSON lines, and the position in the file does not change."""
    rest = b""
    if first.strip(b"\xef\xbb\xbf \t\r\n") == b"{":  # written with indents
        rest = file.read(_MAX_PAGE_BYTES)
    try:
        page = None if len(first) == _MAX_PAGE_BYTES else json.loads((first + rest).decode("utf-8-sig"))
    except (ValueError, RecursionError):
        page = None
    data = page.get("data") if isinstance(page, dict) and "custom_id" not in page else None
    if isinstance(data, list):
        return data
    if rest:
        file.seek(len(first))
    return None


def _array_elements(file: IO[bytes], path: Path) -> Iterator[Line]:
    number = 0
    try:
        for number, value in enumerate(elements(file), 1):
            yield Line(number, json.dumps(value), value)
    except (ValueError, RecursionError, EOFError, OSError) as exc:
        if not number:
            raise ConfigError(f"{path} starts like a JSON array but is not one") from exc
        yield Line(number + 1, "", problem="the JSON array is damaged here; nothing after it was read")


def _csv_rows(file: IO[bytes]) -> Iterator[Line]:
    """Yield the rows after the header. A row may span lines; it has the number of its first line."""
    rows = csv.reader(
        line.decode("utf-8-sig", "surrogateescape") for line in _bounded_lines(file.readline(_MAX_PAGE_BYTES), file)
    )
    header: list[str] | None = None
    number = 1
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as exc:
            yield Line(number, "", problem=f"not valid CSV: {exc}")
            return
        if header is None:
            header = fields
        elif fields:
            yield _csv_line(number, header, fields)
        number = rows.line_num + 1


def _csv_line(number: int, header: Sequence[str], fields: Sequence[str]) -> Line:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(fields)
    text = out.getvalue()
    if len(fields) != len(header):
        return Line(number, text, problem=f"{len(fields)} fields, but the header has {len(header)}")
    try:
        return Line(number, text, own_row_of_csv(dict(zip(header, fields, strict=True))))
    except InvalidLineError as exc:
        return Line(number, text, problem=str(exc))


def _parquet_rows(file: BinaryIO, progress: Progress) -> Iterator[Line]:
    try:
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise ConfigError("Parquet needs pyarrow: pip install 'rlm_cachetrack[parquet]'") from exc
    # Reads page by page in this thread: with its defaults pyarrow keeps a whole row group in memory, of any size.
    parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    number = 0
    for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, use_threads=False):
        for row in batch.to_pylist():
            number += 1
            yield Line(number, json.dumps(row, default=str), row)
        progress(file.tell())

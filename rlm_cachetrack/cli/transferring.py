"""``export`` and ``import``: calls out of the store into a file, and out of files into the store."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlm_cachetrack.errors import ConfigError

from .arguments import AsJson, DbUrl, OptionalQueryId, open_client, parse_moment
from .output import clean, counted, number, print_json, stderr, stdout

if TYPE_CHECKING:
    from rlm_cachetrack.transfer import Imported

__all__ = ["export", "import_"]

_SHOWN_REASONS = 10
_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def export(
    form: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", metavar="FORMAT", help="csv, jsonl or parquet. Default: by the file's ending, else jsonl."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Only calls from then on: 2026-01-31 (UTC), 7d, 24h.", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only calls from before then.", show_default=False)
    ] = None,
    query: OptionalQueryId = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Only its calls.", show_default=False)
    ] = None,
    db_url: DbUrl = None,
) -> None:
    """Write calls to a file or to stdout, the oldest first, whatever their number."""
    from rlm_cachetrack.transfer import transfer

    chosen = form or (_ENDINGS.get(output.suffix.lower(), "jsonl") if output else "jsonl")
    if chosen not in transfer.FORMATS:
        raise ConfigError(f"--format {chosen!r}: expected one of {', '.join(transfer.FORMATS)}")
    if output is None and chosen == "parquet":
        raise ConfigError("--format parquet needs --output FILE: it is no text")
    which: dict[str, Any] = {
        "since": parse_moment(since, "--since"),
        "until": parse_moment(until, "--until"),
        "query_id": query,
        "model": model,
    }
    with open_client(db_url) as client:
        store = client.reader()
        total = transfer.count_exported(store, **which) if _looked_at() else 0
        with _output(output) as file, _bar("exporting", total) as advance:
            done = transfer.export_calls(store, file, chosen, progress=advance, **which)
    if output is not None:
        stderr().print(f"Wrote {counted(done, 'call')} to {clean(output)}.", soft_wrap=True)


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON lines, JSON, CSV or Parquet; .gz too.", show_default=False),
    ],
    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="QUERY_ID",
            help="Of calls that name none. Default: the file's name.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="WHEN", help="Their run. Default: the moment of the first of them.", show_default=False
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FOLDER",
            help="Where FILE.rejected goes. Default: beside it.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Store the calls of files: our own export, OpenAI responses, Batch output files, LiteLLM spend logs.

    Each call is stored once, however often a file is imported. A line that cannot be imported is reported with its
    number and goes to FILE.rejected, to be mended and imported; the exit code is 1 then. Prompts are not stored.
    """
    from rlm_cachetrack.transfer import transfer

    if missing := [path for path in files if not path.is_file()]:
        raise ConfigError(f"there is no file {missing[0]}")
    moment = parse_moment(run, "--run")
    results: list[tuple[Path, Imported]] = []
    with open_client(db_url) as client:
        for path in files:
            folder = None if rejects is None else rejects / f"{path.name}.rejected"
            with _bar(f"importing {clean(path.name)}", path.stat().st_size, quiet=as_json) as advance:
                found = transfer.import_file(
                    client.runtime, path, query_id=query, run_id=moment, reject_file=folder, progress=advance
                )
            results.append((path, found))
            if not as_json:
                _tell(path, found)
    if as_json:
        print_json([_facts(path, found) for path, found in results])
    if any(found.rejected for _, found in results):
        raise typer.Exit(1)


def _tell(path: Path, found: Imported) -> None:
    already = found.stored - found.added
    known = f", {number(already)} stored before" if already else ""
    stdout().print(f"{clean(path)}: {counted(found.added, 'new call')}{known}.")
    if not found.rejected:
        return
    told = stderr()
    for line, reason in found.reasons[:_SHOWN_REASONS]:
        told.print(f"{clean(path)}:{line}: {clean(reason)}", soft_wrap=True)
    more = found.rejected - min(found.rejected, _SHOWN_REASONS)
    told.print(
        f"{f'… and {number(more)} more. ' if more else ''}{number(found.rejected)} line"
        f"{' was' if found.rejected == 1 else 's were'} not imported; see {clean(found.reject_file)}",
        soft_wrap=True,
    )


def _facts(path: Path, found: Imported) -> dict[str, Any]:
    return {
        "file": str(path),
        "read": found.read,
        "stored": found.stored,
        "added": found.added,
        "rejected": found.rejected,
        "reasons": [{"line": line, "reason": reason} for line, reason in found.reasons],
        "reject_file": None if found.reject_file is None else str(found.reject_file),
    }


def _looked_at() -> bool:
    return sys.stderr.isatty()


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that appears under its name only when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as exc:
        raise ConfigError(f"--output {path}: {exc.strerror}") from exc
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _bar(words: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], object]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=quiet or not _looked_at()) as progress:
        task = progress.add_task(words, total=total or None)
        yield lambda done: progress.update(task, completed=done)

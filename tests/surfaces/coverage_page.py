"""Write ``docs/coverage.md`` from the collected tests.

    python -m tests.surfaces.coverage_page            write the page
    python -m tests.surfaces.coverage_page --check    exit 1 if the page is out of date

The tests are only collected, not run.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack.usage.reading import DIALECTS
from tests.surfaces import sdk_methods
from tests.surfaces.calls import MODES, SURFACES, TESTED

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coverage.md"
FORMS = ("plain", "stream", "raw", "raw stream", "streaming response", "streaming response stream", "events")
FOLDER = "tests/surfaces"
_MOST_VALUES = 16
OTHER_TESTS = (
    "tests/unit/usage/test_reading.py",
    "tests/unit/usage/test_recorded_usages.py",
    "tests/integration/capture/test_corpus.py",
)
CHAPTERS = {
    "test_matrix.py": "Callers who set stream_options",
    "test_streams.py": "How streams end",
    "test_raw.py": "Raw responses",
    "test_faults.py": "Failures and retries",
    "test_background.py": "Background and stored responses",
    "test_clients.py": "Clients",
    "test_provider.py": "Provider",
    "test_responses_socket.py": "Responses over a websocket",
    "test_realtime_socket.py": "Realtime",
    "test_live_socket.py": "Live",
    "test_stated_facts.py": "Facts in responses",
    "test_media.py": "Images, audio, videos, decisions, moderations",
    "test_totals.py": "Batches, evals, graders, agent sessions",
    "test_not_covered.py": "Calls that pass through",
}

HEAD = f"""\
# Coverage contract

Which calls are recorded, in which form, and the tests that prove it. Generated from the tests by
`python -m tests.surfaces.coverage_page`; a test fails if this page is out of date. Do not edit it by hand.

A covered call makes **one record with the numbers the server sent**, and its caller gets the same as without recording.
The tests make each call twice over real HTTP, with and without recording, and compare the results (types, fields that
were sent, extra fields, headers, request ids, closed or not), the errors (type, text, fields, causes) and the requests.
They run on openai {", ".join(TESTED[:-1])} and {TESTED[-1]};
the tests of a call that an SDK version lacks are skipped with that reason.

**Forms**: *plain*; *stream* (`stream=True`); *raw* (`with_raw_response`); *streaming response*
(`with_streaming_response`); *events* (the `.stream()` helpers).
"""

UNKNOWN = 'one record without tokens, `metadata.usage = "unknown"`'
NOT_COVERED = {
    "translations of Realtime": "not recorded: their events report no usage",
    "a websocket that was opened before `instrument`, or without the SDK (the `websockets` package itself)": (
        "not recorded, and no log line reports it, because the SDK loads the same package. "
        "`integrations.openai_agents` records the websockets of openai-agents; without it, one log line reports that "
        "they are not recorded"
    ),
    "a background response or video that two processes retrieve": (
        "recorded once, unless both store it at the same moment, or the clock of the process that requested it differs "
        "from the server's by more than 5 minutes: then each record has the tokens"
    ),
    "a message that waits in the SDK's queue for a connection that is never opened": "not recorded: it was never sent",
    "a response of a connection that is closed or lost before the response ends": (
        'one failed record without tokens, `metadata.usage = "unknown"`: the server may bill it'
    ),
    "`responses.input_tokens`, stored chat completions": "not recorded: no model is called",
    "a chat stream whose server sends the usage in a separate chunk without being asked": (
        "recorded; the chunk cannot be distinguished from the one that we requested, so it is hidden from a caller "
        "who did not request it. `instrument(client, stream_usage=False)` leaves it in the stream"
    ),
    "a stream that sends its usage after an error event": (
        'one failed record without tokens, `metadata.usage = "unknown"`: the SDK stops reading at the error'
    ),
    "`with_streaming_response` of a chat stream whose caller does not request usage": (
        f"{UNKNOWN}: the caller gets the raw bytes, so nothing is added to the request"
    ),
    "a `with_streaming_response` whose bytes are read undecoded (`iter_raw`), or that has more than 16 MiB": (
        f"{UNKNOWN}, unless it is parsed by the SDK"
    ),
    "the bytes of a chat stream's `with_raw_response` (`.http_response`)": (
        "contain the extra usage chunk that we requested, which the parsed stream does not; "
        "`instrument(client, stream_usage=False)` opts out. So does the body of an error that a validating client "
        '(`_strict_response_validation`) raises at a chunk: it holds `"usage": null`'
    ),
    "a raw response of a `.parse()` helper": (
        "is parsed before it is returned, and the SDK keeps the result for the caller's own `.parse()`. Warnings of "
        "pydantic about an unexpected response appear at that time"
    ),
    "an error that `.parse()` of a raw response raises later (`parse(to=…)`)": (
        "does not change the record: the call succeeded. An error that the `.parse()` helpers raise for a response is "
        "a failure, raw or not"
    ),
    "retries made by the HTTP library, or by the caller": (
        "retries of the HTTP library are not counted; those of the caller are separate calls"
    ),
}


class Collected:
    """A pytest plugin that keeps the collected tests."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the collected tests; called by pytest."""
        self.items = list(session.items)


def collect() -> list[Any]:
    """Return the tests that cover the SDK, in the order of the files."""
    collected = Collected()
    names = [f"{FOLDER}/test_matrix.py", *(f"{FOLDER}/{name}" for name in CHAPTERS), f"{FOLDER}/test_dialects.py"]
    paths = [str(ROOT / name) for name in (*dict.fromkeys(names), *OTHER_TESTS)]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        arguments = ["--collect-only", "-q", "--assert=plain", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *paths]
        if (code := pytest.main(arguments, plugins=[collected])) != 0:
            sys.exit(f"the tests cannot be collected ({code}):\n{output.getvalue()}")
    return collected.items


def page(items: list[Any]) -> str:
    """Return the text of the page."""
    left_out = [f"| {what} | {happens} |" for what, happens in NOT_COVERED.items()]
    last = "\n".join(["## Not covered", "", "| what | what happens |", "|---|---|", *left_out, ""])
    return "\n".join([HEAD, sdk_methods.lines(), surfaces(items), dialects(items), *chapters(items), last])


def surfaces(items: list[Any]) -> str:
    """Return the lines of the table of surfaces: by surface, mode and form, the test of each cell."""
    cells = {}
    for item in items:
        parameters = _parameters(item)
        if _file(item) == "test_matrix.py" and "surface" in parameters:
            cells[parameters["surface"].name, parameters["mode"], parameters["form"]] = item.callspec.id
            test = item.originalname
    lines = [
        "## Surfaces",
        "",
        f"`{FOLDER}/test_matrix.py::{test}[…]` proves each cell; what stands in the cell goes into the brackets.",
        "",
        f"| surface | from openai | | {' | '.join(FORMS)} |",
        "|---" * (3 + len(FORMS)) + "|",
    ]
    for surface in SURFACES:
        for mode in MODES:
            row = [cells.get((surface.name, mode, form)) for form in FORMS]
            shown = [f"`{cell}`" if cell else "-" for cell in row]
            since = surface.since
            if surface.raw_since != since and "raw" in surface.forms:
                since += f", raw {surface.raw_since}"
            name = f"`{surface.name}`" if mode == MODES[0] else ""
            lines.append(f"| {name} | {since if name else ''} | {mode} | {' | '.join(shown)} |")
    lines += ["", '"From openai": the first of the tested versions that has it. "-": the SDK has no such call.', ""]
    return "\n".join(lines)


def dialects(items: list[Any]) -> str:
    """Return the lines of the table of dialects: by dialect, API, mode and plain or stream, the tests of each row."""
    found: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    unit, elsewhere, corpus = set(), [], []
    for item in items:
        parameters, name = _parameters(item), _file(item)
        if name == "test_dialects.py" and "form" in parameters:
            example = item.callspec.id.removesuffix(f"-{parameters['mode']}-{parameters['form']}")
            key = parameters["reading"].dialect, example, parameters["name"]
            found[key].add((parameters["mode"], parameters["form"]))
            test = item.originalname
        elif name == "test_dialects.py":
            elsewhere.append(f"`{item.callspec.id}`")
        elif item.originalname == "test_each_dialect_is_read":
            unit.add(item.callspec.id)
        elif _path(item) in OTHER_TESTS and "recorded" in item.name:
            corpus.append(f"`{_path(item)}::{item.originalname}`")
    lines = [
        "## Dialects",
        "",
        "The usage formats of the providers ([dialects.md](dialects.md)), sent by a server and read through the SDK:",
        f"`{FOLDER}/test_dialects.py::{test}[EXAMPLE-MODE-FORM]`. Without the SDK:",
        "`tests/unit/usage/test_reading.py::test_each_dialect_is_read[EXAMPLE]`.",
        "",
        "| dialect | example | through | sync plain | sync stream | async plain | async stream | without the SDK |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = [row.name for row in DIALECTS]
    for (dialect, example, api), ways in sorted(found.items(), key=lambda pair: order.index(pair[0][0])):
        cells = ["✓" if (mode, form) in ways else "-" for mode in MODES for form in ("plain", "stream")]
        alone = "✓" if example in unit else "-"
        lines.append(f"| `{dialect}` | {example} | `{api}` | {' | '.join(cells)} | {alone} |")
    lines += [
        "",
        "Streams with their usage in another place: `test_a_usage_is_found_where_a_stream_has_it` with "
        + ", ".join(elsewhere)
        + ".",
        "Recorded responses of real providers, if the recordings are available: "
        + ", ".join(dict.fromkeys(corpus))
        + ".",
        "",
    ]
    return "\n".join(lines)


def chapters(items: list[Any]) -> list[str]:
    """Return the sections for the other tests: each test's name, parameters and number of cases."""
    out = []
    for file, title in CHAPTERS.items():
        tests: dict[str, dict[str, dict[str, None]]] = {}
        counts: dict[str, int] = defaultdict(int)
        for item in items:
            if _file(item) != file or "surface" in _parameters(item):
                continue
            counts[item.originalname] += 1
            over = tests.setdefault(item.originalname, {})
            for name, value in _parameters(item).items():
                over.setdefault(name, {})[_short(value)] = None
        lines = [f"## {title}", "", f"`{FOLDER}/{file}`", "", "| test | over | cases |", "|---|---|---|"]
        for test, over in tests.items():
            parameters = "; ".join(f"{name}: {_few(list(values))}" for name, values in over.items() if name != "mode")
            modes = "sync and async" if "mode" in over else ""
            lines.append(f"| `{test}` | {'. '.join(filter(None, (modes, parameters)))} | {counts[test]} |")
        out.append("\n".join([*lines, ""]))
    return out


def _parameters(item: Any) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def _few(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= _MOST_VALUES else f"{len(values)} values"


def _short(value: object) -> str:
    text = str(value)
    return f"`{text if len(text) < 70 else type(value).__name__}`"


def _file(item: Any) -> str:
    return str(item.path.name)


def _path(item: Any) -> str:
    return str(item.path.relative_to(ROOT).as_posix())


def main() -> int:
    """Write the page, or compare it with ``--check``. Returns the exit code."""
    text = page(collect())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/coverage.md is out of date; run: python -m tests.surfaces.coverage_page")
    return 1


if __name__ == "__main__":
    sys.exit(main())

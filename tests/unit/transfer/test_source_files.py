"""A line that is too long is rejected without holding all of it in memory; the lines after it are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm_cachetrack.transfer import source_files


@pytest.mark.parametrize("length", [999, 1000, 1001, 2500, 3000])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_is_too_long_is_rejected_and_the_others_are_read(
    length: int, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "_MAX_PAGE_BYTES", 1000)
    long = json.dumps({"n": 9, "text": "x" * length})
    lines = ['{"n": 0}', '{"n": 1}']
    lines.insert(place, long)
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with source_files.open_lines(path, lambda read: None) as found:
        read = list(found)
    assert [line.value for line in read if line.problem is None] == [{"n": 0}, {"n": 1}]
    assert [(line.number, line.problem) for line in read if line.problem] == [(place + 1, "longer than 1000 bytes")]
    assert all(len(line.text) <= 1000 for line in read)

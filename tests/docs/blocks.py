"""The code blocks of the documentation, as written in its Markdown files.

A comment before a block tells the tests more about it, and is invisible to readers:

``<!-- sample: continues -->``
    The block continues the Python block before it.
``<!-- sample: labels -->``
    Output whose figures depend on the day: only the first word of each line is compared.
``<!-- sample: figure -->``
    A drawing.
``<!-- sample: not run: REASON -->``
    The block cannot be run. ``test_samples.py`` lists these blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.joinpath("docs").rglob("*.md")),
    *sorted(ROOT.joinpath("examples").rglob("*.md")),
)
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*) *(?P<more>.*)$")
_NOTE = re.compile(r"^ *<!-- sample: (?P<note>.*) -->$")
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The file, from the root of the repository.
        line: The number of its first line of code.
        language: ``python``, ``sh``, ``yaml``, …; empty if the fence names none.
        title: The name of the file that the block shows, or None.
        note: The text of the comment before it, or an empty text.
        code: Its lines.
    """

    page: str
    line: int
    language: str
    title: str | None
    note: str
    code: str

    @property
    def place(self) -> str:
        """``PAGE:LINE``."""
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a Markdown file."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number, note = 0, ""
    while number < len(lines):
        line = lines[number]
        number += 1
        if noted := _NOTE.match(line):
            note = noted["note"]
        elif begun := _FENCE.match(line):
            start = number
            while number < len(lines) and lines[number].strip() != "```":
                number += 1
            code = "".join(f"{each.removeprefix(begun['indent'])}\n" for each in lines[start:number])
            title = _TITLE.search(begun["more"])
            name = page.relative_to(ROOT).as_posix()
            found.append(Block(name, start + 1, begun["language"], title[1] if title else None, note, code))
            number, note = number + 1, ""
        elif line.strip():
            note = ""
    return found

"""Write the generated pages of the documentation.

python -m tests.docs.pages            write the pages (`make pages`)
python -m tests.docs.pages --check    exit 1 if one is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from . import command_line_page, results_page

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES: dict[Path, Callable[[], str]] = {
    REFERENCE / "command-line.md": command_line_page.render,
    REFERENCE / "results.md": results_page.render,
}


def out_of_date() -> list[str]:
    """Return the names of the pages whose file differs from what would be written now."""
    return [
        page.name for page, render in PAGES.items() if not page.exists() or page.read_text(encoding="utf-8") != render()
    ]


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv[1:]:
        for name in (stale := out_of_date()):
            print(f"docs/reference/{name} is out of date: run `make pages`")
        return int(bool(stale))
    for page, render in PAGES.items():
        page.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run every benchmark of this folder, or those named: `make bench`, `make bench ARGS='import_time'`.

A benchmark is a file with a `main()` that takes no argument, measures, and prints one Markdown table. Each runs in a
new process, so that it does not profit from the caches of another. After each, its section of docs/benchmarks.md is
replaced.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

The last output of `make bench`. Figures depend on the machine; ratios to the run without us, or to raw COPY, depend on
it less. The header of each file in `benchmarks/` describes its measurement."""
_OF_OTHER_TARGETS = ("scale",)
"""Sections that `make bench` keeps, but does not measure."""
_SECTION = re.compile(r"^## (\w+)\n", re.MULTILINE)


def benchmarks() -> dict[str, Path]:
    """Return the files of this folder that define `main()`, by name."""
    return {
        path.stem: path for path in sorted(HERE.glob("*.py")) if path != Path(__file__).resolve() and _has_main(path)
    }


def _has_main(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)


def _heading(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return text.splitlines()[0]


def sections(page: str) -> dict[str, str]:
    """Return the sections of the page, by benchmark."""
    _, *rest = _SECTION.split(page)
    return dict(zip(rest[::2], (text.strip() for text in rest[1::2]), strict=True))


def keep(name: str, text: str, known: Iterable[str]) -> None:
    """Replace one section of the page, and remove those of benchmarks that no longer exist."""
    parts = sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    parts[name] = text.strip()
    kept = sorted({*known, *_OF_OTHER_TARGETS} & parts.keys())
    page = [_HEAD, *(f"## {each}\n\n{parts[each]}" for each in kept)]
    PAGE.write_text("\n\n".join(page) + "\n", encoding="utf-8")


def main() -> int:
    """Run the benchmarks. Returns 1 if one failed, 2 for an unknown name, else 0."""
    found = benchmarks()
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {', '.join(found)}; none: all")
    names = parser.parse_args().names or list(found)
    if unknown := [name for name in names if name not in found]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(found)}")
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(where)
    failed = []
    for name in names:
        heading = _heading(found[name])
        print(f"\n## {name}\n\n{heading}\n", flush=True)
        lines = []
        with subprocess.Popen([sys.executable, found[name]], stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            failed.append(name)
        else:
            text = f"{heading} On {datetime.now(UTC).date()}; {where}.\n\n{''.join(lines)}"
            keep(name, text, found)
    print(f"\nwritten: {PAGE.relative_to(HERE.parent)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

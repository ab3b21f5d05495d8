"""Run every benchmark of this folder, or those named: `make bench`, `make bench ARGS='import_time'`.

A benchmark is a file with a `main()` that measures, prints one Markdown table, and takes no argument. Each runs in a
process of its own, so that none is warmed by another.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def benchmarks() -> dict[str, Path]:
    """The files of this folder that define `main()`, by name."""
    return {
        path.stem: path for path in sorted(HERE.glob("*.py")) if path != Path(__file__).resolve() and _has_main(path)
    }


def _has_main(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)


def _heading(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return said.splitlines()[0]


def main() -> int:
    """Run them; 1 where one failed, 2 for an unknown name."""
    found = benchmarks()
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {', '.join(found)}; none: all")
    names = parser.parse_args().names or list(found)
    if unknown := [name for name in names if name not in found]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(found)}")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    failed = []
    for name in names:
        print(f"\n## {name}\n\n{_heading(found[name])}\n", flush=True)
        if subprocess.run([sys.executable, found[name]]).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the time that `import rlm_cachetrack` adds to `import openai`. Target: at most 40 ms.

Two measurements, each a median over fresh interpreters with its quartiles:

- A/B: `import openai` against `import openai, rlm_cachetrack`, in pairs of alternating order, so that changes in the
  machine's load affect both sides alike. This is the definition, but on a busy machine both large figures vary by more
  than their difference: read the quartiles.
- In one interpreter: the time of the second import alone, after `openai` has loaded the modules that both use. This
  figure is stable.

The first pair fills the byte-code caches and is not counted. No figure includes the start of Python.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

ROUNDS = int(os.environ.get("ROUNDS", "31"))
TARGET_MS = 40

PROGRAM = """
from time import perf_counter as now
start = now()
import openai
middle = now()
{second}
end = now()
print((end - start) * 1e3, (end - middle) * 1e3)
"""


def import_ms(second: str, folder: str) -> tuple[float, float]:
    """Return the milliseconds of both imports, and of the second alone, in a fresh interpreter."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(second=second)],
        cwd=folder,  # outside the repository, as for a user
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    total, alone = done.stdout.split()
    return float(total), float(alone)


def spread(values: Sequence[float]) -> str:
    """Format the median, with the first and third quartile."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.1f} ({low:.1f} … {high:.1f})"


def main() -> None:
    """Measure, and print a table."""
    without: list[float] = []
    both: list[float] = []
    second: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):
            sides = ["pass", "import rlm_cachetrack"]
            taken = {side: import_ms(side, folder) for side in (sides if number % 2 else reversed(sides))}
            if number:
                without.append(taken["pass"][0])
                both.append(taken["import rlm_cachetrack"][0])
                second.append(taken["import rlm_cachetrack"][1])
    differences = [b - a for a, b in zip(without, both, strict=True)]
    ratio = statistics.median(b / a for a, b in zip(without, both, strict=True))
    print(f"| ms, {ROUNDS} pairs | openai | both | ratio | added, A/B | added, in one interpreter | target |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    print(
        f"| import | {spread(without)} | {spread(both)} | {ratio:.3f} | {spread(differences)} | {spread(second)}"
        f" | ≤ {TARGET_MS} |"
    )


if __name__ == "__main__":
    main()

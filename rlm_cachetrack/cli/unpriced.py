"""Unpriced calls, for ``doctor`` and ``models``: their models, the reasons, and the command that adds a price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlm_cachetrack.formatting import number

from .arguments import command_line
from .output import counted

_SHOWN = 20


def unpriced_lines(unpriced: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one line per model and reason, each followed by the command that helps.

    Args:
        unpriced: The rows of the query ``unpriced_models``.
    """
    from rlm_cachetrack.pricing import reason_unpriced, remedy

    for row in unpriced[:_SHOWN]:
        details = [row["provider"] or "unknown", *([row["service_tier"]] if row["service_tier"] else [])]
        count = f"{counted(row['interactions'], 'unpriced call')}, {counted(row['tokens'], 'token')}"
        yield f"{row['model']} ({', '.join(details)}): {count}; {reason_unpriced(row)}"
        if words := remedy(row):
            yield f"`{command_line(*words)}`"
    if (more := len(unpriced) - _SHOWN) > 0:
        yield f"and {number(more)} more: `{command_line('doctor', '--json')}` lists them"
    if any("add" in remedy(row) for row in unpriced):
        yield f"a newer price list may have them: `{command_line('prices', 'update', '--reprice')}`"

"""The gate for CI: check a run against absolute limits and against a baseline, and keep baselines in a file.

A baseline file holds only names and figures by iteration, so it can be committed. A check against it does not need the
database that the baseline was measured in.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import duration, number, usd

from .compare import Comparison, compare_rows
from .iteration_rows import IterationRow

__all__ = ["LIMITS", "Gate", "GateCheck", "check_rows", "read_baseline", "share_of", "write_baseline"]

_VERSION = 1
_ROUNDING = 1e-9  # tolerance, so that an identical run does not fail by the last bit of a sum

LIMITS: dict[str, tuple[str, str, str]] = {
    "min_hit_rate": ("cache_hit_rate", "least", "hit rate"),
    "max_cost": ("total_cost", "most", "cost"),
    "max_uncached_tokens": ("uncached_prompt_tokens", "most", "uncached tokens"),
    "max_hit_rate_drop": ("cache_hit_rate", "drop", "hit rate"),
    "max_cost_delta": ("total_cost", "delta", "cost"),
    "max_uncached_delta": ("uncached_prompt_tokens", "delta", "uncached tokens"),
    "max_ttft_delta": ("time_to_first_token_ms", "delta", "time to first token"),
}
"""The limits by name: the figure, the kind of limit, and the figure's name in messages.

``least`` and ``most`` bound the figure over all iterations of the run. ``delta`` bounds how far it may be above the
baseline, as a fraction of the baseline; ``drop`` how far a rate may be below it. Both compare iteration by iteration.
"""


class GateCheck(TypedDict):
    """One limit and the measured value.

    ``found`` is the figure (rate 0-1, USD, tokens, ms); ``value`` is compared with ``limit``: the figure itself, or its
    distance from ``baseline``. A figure that is not known is None and fails. ``words`` is the result as a sentence.
    """

    name: str
    limit: float
    value: float | None
    baseline: float | None
    found: float | None
    passed: bool
    words: str


class Gate(TypedDict):
    """The result of a check; ``comparison`` is None without a baseline."""

    passed: bool
    checks: list[GateCheck]
    comparison: Comparison | None


def share_of(value: float | str, name: str) -> float:
    """Parse a fraction, ``0.05`` or ``"5%"``.

    Raises:
        ConfigError: ``value`` is not a number.
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            share = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
        else:
            share = float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not math.isfinite(share):
        raise ConfigError(f"{name}={value!r}: expected a share such as 0.05 or 5%")
    return share


def check_rows(
    rows: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]] | None = None, **limits: float | str | None
) -> Gate:
    """Check one run, or the mean of several, against limits and a baseline. Pure.

    Args:
        rows: The run or runs, as :func:`~.rows_of_runs` returns them.
        baseline: The rows to compare with; None if no limit needs them.
        limits: By the names of :data:`LIMITS`: fractions, USD or tokens. None: no limit.

    Raises:
        ConfigError: No limit is given, one is unknown or not a number, or one needs a baseline and there is none.
    """
    if unknown := sorted(set(limits) - set(LIMITS)):
        raise ConfigError(f"unknown limit {unknown[0]}; expected one of {', '.join(LIMITS)}")
    given = {name: share_of(value, name) for name, value in limits.items() if value is not None}
    if not given:
        raise ConfigError(f"nothing to check: give a limit ({', '.join(LIMITS)})")
    if not 0 <= given.get("min_hit_rate", 0.0) <= 1:
        raise ConfigError(f"min_hit_rate={limits['min_hit_rate']!r}: expected a share from 0 to 1, such as 0.6 or 60%")
    needing = [name for name in given if LIMITS[name][1] in ("delta", "drop")]
    if needing and baseline is None:
        raise ConfigError(f"{needing[0]} compares with a baseline: give one")
    alone = _figures(compare_rows(rows, rows))
    comparison = None if baseline is None else compare_rows(baseline, rows)
    compared = {} if comparison is None else _figures(comparison)
    checks = []
    for name, limit in given.items():
        figure, how, words = LIMITS[name]
        if how in ("least", "most"):
            checks.append(_absolute(name, limit, alone[figure][1], at_least=how == "least", words=words))
        else:
            before, after = compared.get(figure, (None, None))
            checks.append(_relative(name, limit, before, after, drop=how == "drop", words=words))
    return {"passed": all(check["passed"] for check in checks), "checks": checks, "comparison": comparison}


def _figures(comparison: Comparison) -> dict[str, tuple[float | None, float | None]]:
    return {metric["name"]: (metric["a"], metric["b"]) for metric in comparison["metrics"]}


def _absolute(name: str, limit: float, value: float | None, *, at_least: bool, words: str) -> GateCheck:
    passed = value is not None and (value >= limit if at_least else value <= limit)
    bound = "at least" if at_least else "at most"
    text = f"{words} is {_shown(name, value)} (limit: {bound} {_shown(name, limit)})"
    return GateCheck(name=name, limit=limit, value=value, baseline=None, found=value, passed=passed, words=text)


def _relative(
    name: str, limit: float, before: float | None, after: float | None, *, drop: bool, words: str
) -> GateCheck:
    value: float | None = None
    if before is not None and after is not None:
        if drop:
            value = before - after
        elif before:
            value = (after - before) / before
        else:
            value = 0.0 if not after else math.inf
    passed = value is not None and value <= limit + _ROUNDING
    text = f"{words} is {_shown(name, after)}, baseline {_shown(name, before)}"
    if value is not None:
        side = "below" if drop else "above"
        excess = f"{value:.1%} {side}; " if value > 0 else ""
        text += f" ({excess}limit: at most {limit:.1%} {side} the baseline)"
    return GateCheck(name=name, limit=limit, value=value, baseline=before, found=after, passed=passed, words=text)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "not known"
    if "hit_rate" in name:
        return f"{value:.1%}"
    if "cost" in name:
        return usd(value)
    return duration(value) if "ttft" in name else number(value)


# -- baselines in a file ---------------------------------------------------------------------------------------------


def write_baseline(path: str | os.PathLike[str], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the figures of one run or several into a baseline file, replacing those of the same name.

    The file is JSON with sorted keys, so that it can be committed and its diffs are readable.

    Raises:
        ConfigError: The file exists and is not a baseline file, or it cannot be written.
    """
    file = Path(path).resolve()  # a symbolic link is kept
    names = _read(file) if file.exists() else {}
    names[name] = {
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [{key: _plain(value) for key, value in row.items()} for row in rows],
    }
    text = json.dumps({"rlm_cachetrack_baseline": _VERSION, "runs": names}, indent=1, sort_keys=True) + "\n"
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{file}: the baseline cannot be written: {exc.strerror or exc}") from exc


def read_baseline(path: str | os.PathLike[str], name: str | None = None) -> list[dict[str, Any]]:
    """Read the figures that :func:`write_baseline` wrote.

    Args:
        path: The file.
        name: The name of the baseline; ignored if the file contains only one.

    Raises:
        ConfigError: The file cannot be read, is not a baseline file, or has no baseline of that name.
    """
    names = _read(Path(path))
    if len(names) == 1:
        (name,) = names
    if name not in names:
        listed = ", ".join(repr(known) for known in sorted(names)) or "none"
        raise ConfigError(f"{path}: no baseline is named {name!r}; it has: {listed}")
    return list(names[name]["rows"])


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{file}: the baseline cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise ConfigError(f"{file}: not a baseline file, because it is not JSON: {exc}") from exc
    version = found.get("rlm_cachetrack_baseline") if isinstance(found, dict) else None
    if version != _VERSION:
        raise ConfigError(f"{file}: not a baseline file of this version; `check --save` writes one")
    names, columns = found.get("runs"), set(IterationRow.__annotations__)
    intact = isinstance(names, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("rows"), list)
        and entry["rows"]
        and all(isinstance(row, dict) and set(row) >= columns for row in entry["rows"])
        for entry in names.values()
    )
    if not intact:
        raise ConfigError(f"{file}: a baseline in it is damaged; write it again with `check --save`")
    return dict(names)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

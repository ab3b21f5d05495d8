"""A gate for CI: does a run keep what was asked of it, by itself and beside a baseline? And baselines in a file.

A baseline in a file holds figures by iteration and names, nothing else, so it can be committed; a check against it
needs no database that remembers yesterday.
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

from .compare import Comparison, compare_rows

__all__ = ["LIMITS", "Gate", "GateCheck", "check_rows", "read_baseline", "share_of", "write_baseline"]

_VERSION = 1

LIMITS: dict[str, tuple[str, str, str]] = {
    "min_hit_rate": ("cache_hit_rate", "least", "hit rate"),
    "max_cost": ("total_cost", "most", "cost"),
    "max_uncached_tokens": ("uncached_prompt_tokens", "most", "uncached tokens"),
    "max_hit_rate_drop": ("cache_hit_rate", "drop", "hit rate"),
    "max_cost_delta": ("total_cost", "delta", "cost"),
    "max_uncached_delta": ("uncached_prompt_tokens", "delta", "uncached tokens"),
    "max_ttft_delta": ("time_to_first_token_ms", "delta", "time to first token"),
}
"""What may be asked: the figure of a run, how it is limited, and its name in words.

``least`` and ``most`` are of the run itself, over all its iterations; ``delta`` is what it may be above the baseline as
a fraction of it, ``drop`` what a rate may be below it, both at equal iteration.
"""


class GateCheck(TypedDict):
    """One limit. ``value`` is what was found (for a delta the fraction), None where it is not known: that fails."""

    name: str
    limit: float
    value: float | None
    baseline: float | None
    found: float | None
    passed: bool
    words: str


class Gate(TypedDict):
    """The answer; ``comparison`` is None without a baseline."""

    passed: bool
    checks: list[GateCheck]
    comparison: Comparison | None


def share_of(value: float | str, name: str) -> float:
    """A fraction: ``0.05``, or ``"5%"``.

    Raises:
        ConfigError: It is no number.
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            number = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
        else:
            number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{name}={value!r}: expected a share such as 0.05 or 5%")
    return number


def check_rows(
    rows: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]] | None = None,
    **limits: float | str | None,
) -> Gate:
    """Check runs, as :func:`~.rows_of` gives them, against limits and a baseline. Pure.

    Args:
        rows: The run, or runs: then their mean counts.
        baseline: What it is compared with; None: nothing, and then no limit may need one.
        limits: Of :data:`LIMITS`; fractions, USD or tokens. None: no limit.

    Raises:
        ConfigError: No limit is given, one is unknown or no number, or one needs a baseline and there is none.
    """
    if unknown := sorted(set(limits) - set(LIMITS)):
        raise ConfigError(f"{unknown[0]} is no limit; there are: {', '.join(LIMITS)}")
    given = {name: share_of(value, name) for name, value in limits.items() if value is not None}
    if not given:
        raise ConfigError(f"nothing is to be checked: give a limit ({', '.join(LIMITS)})")
    if not 0 <= given.get("min_hit_rate", 0.0) <= 1:
        raise ConfigError(f"min_hit_rate={limits['min_hit_rate']!r}: expected a share from 0 to 1, such as 0.6 or 60%")
    needing = [name for name in given if LIMITS[name][1] in ("delta", "drop")]
    if needing and baseline is None:
        raise ConfigError(f"{needing[0]} says how far from a baseline: name one")
    alone = _figures(compare_rows(rows, rows))
    comparison = None if baseline is None else compare_rows(baseline, rows)
    beside = {} if comparison is None else _figures(comparison)
    checks = []
    for name, limit in given.items():
        figure, how, words = LIMITS[name]
        if how in ("least", "most"):
            checks.append(_absolute(name, limit, alone[figure][1], least=how == "least", words=words))
        else:
            before, after = beside.get(figure, (None, None))
            checks.append(_relative(name, limit, before, after, drop=how == "drop", words=words))
    return {"passed": all(check["passed"] for check in checks), "checks": checks, "comparison": comparison}


def _figures(comparison: Comparison) -> dict[str, tuple[float | None, float | None]]:
    return {metric["name"]: (metric["a"], metric["b"]) for metric in comparison["metrics"]}


def _absolute(name: str, limit: float, value: float | None, *, least: bool, words: str) -> GateCheck:
    passed = value is not None and (value >= limit if least else value <= limit)
    said = f"{words} {_said(name, value)}, {'at least' if least else 'at most'} {_said(name, limit)} wanted"
    return _check(name, limit, value, None, value, passed, said)


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
    # A run that does just the same is not to fail by the last bit of a sum.
    passed = value is not None and value <= limit + 1e-9
    kind = "below" if drop else "above"
    said = f"{words} {_said(name, after)} after {_said(name, before)}"
    if value is not None:
        said += f": {value:.1%} {kind}" if value > 0 else ""
        said += f", at most {limit:.1%} {kind} wanted"
    return _check(name, limit, value, before, after, passed, said)


def _check(
    name: str,
    limit: float,
    value: float | None,
    before: float | None,
    after: float | None,
    passed: bool,
    said: str,
) -> GateCheck:
    return {
        "name": name,
        "limit": limit,
        "value": value,
        "baseline": before,
        "found": after,
        "passed": passed,
        "words": said,
    }


def _said(name: str, value: float | None) -> str:
    if value is None:
        return "not known"
    if "hit_rate" in name:
        return f"{value:.1%}"
    if "cost" in name:
        return f"${value:,.6f}".rstrip("0").rstrip(".") if value else "$0"
    return f"{value:,.0f}{' ms' if 'ttft' in name else ''}"


# -- baselines in a file ---------------------------------------------------------------------------------------------


def write_baseline(path: str | os.PathLike[str], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the figures of a run, or of runs, into a file of baselines, in the place of those of the same name.

    The file is JSON with sorted keys, one name after the other, so that it may be committed and its changes read.

    Raises:
        ConfigError: The file is there and is no file of baselines, or it cannot be written.
    """
    file = Path(path)
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
    """The figures that :func:`write_baseline` wrote.

    Args:
        path: The file.
        name: Whose; the only one in the file is taken whatever it is called.

    Raises:
        ConfigError: It cannot be read, is no such file, or holds nothing of that name.
    """
    names = _read(Path(path))
    if len(names) == 1:
        (name,) = names
    if name not in names:
        listed = ", ".join(repr(known) for known in sorted(names)) or "none"
        raise ConfigError(f"{path}: no baseline {'' if name is None else repr(name) + ' '}in it; there are: {listed}")
    return list(names[name]["rows"])


_NEEDED = frozenset(
    {
        "query_id",
        "run_id",
        "iteration",
        "numbered",
        "calls",
        "failed",
        "unpriced",
        "prompt_tokens",
        "completion_tokens",
        "reported_prompt_tokens",
        "cached_tokens",
        "total_cost",
        "original_cost",
        "ttft_ms",
        "ttft_calls",
        "duration_ms",
        "duration_calls",
        "models",
        "providers",
        "tiers",
        "priced_calls",
        "priced_prompt",
        "priced_cached",
        "priced_written",
        "priced_completion",
        "prompt_at_prompt",
        "prompt_at_cached",
        "prompt_at_write",
        "cost_of_uncached",
        "cost_of_cached",
        "cost_of_written",
        "cost_of_completion",
    }
)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{file}: the baseline cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise ConfigError(f"{file}: no JSON, and so no baseline: {exc}") from exc
    version = found.get("rlm_cachetrack_baseline") if isinstance(found, dict) else None
    if version != _VERSION:
        raise ConfigError(f"{file}: no file of baselines of this version; `check --save` writes one")
    names = found.get("runs")
    whole = isinstance(names, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("rows"), list)
        and entry["rows"]
        and all(isinstance(row, dict) and set(row) >= _NEEDED for row in entry["rows"])
        for entry in names.values()
    )
    if not whole:
        raise ConfigError(f"{file}: a baseline in it is damaged; write it anew with `check --save`")
    return dict(names)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

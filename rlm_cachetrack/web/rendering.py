"""The templates, with their filters, and the static files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jinja2

from rlm_cachetrack.analytics import is_cache_use_reported
from rlm_cachetrack.formatting import text as wording

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation, CallVerdict

HERE = Path(__file__).parent


def plotly_script() -> Path:
    """Return the path of Plotly's script in its package."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def environment() -> jinja2.Environment:
    """Return the environment of the templates; it escapes every value."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in (
        "number",
        "large_number",
        "rate",
        "percentage",
        "usd",
        "duration",
        "size",
        "moment",
        "day",
        "clock",
        "clean",
        "verdict",
    ):
        templates.filters[name] = getattr(wording, name)
    templates.tests["reporting_cache_use"] = is_cache_use_reported
    templates.globals["hit_rates"] = wording.hit_rates
    templates.globals["dropped_details"] = wording.dropped_details
    templates.filters["short"] = _short
    templates.filters["query"] = _query
    templates.filters["usd_column"] = _usd_column
    templates.policies["json.dumps_kwargs"] = {"default": _json_default}
    return templates


def verdicts(explained: CacheExplanation | None) -> dict[str, CallVerdict]:
    """Return the verdicts of an explanation by ``interaction_id``."""
    return {} if explained is None else {each["interaction_id"]: each for each in explained["interactions"]}


def _short(text: object, max_length: int = 60) -> str:
    shown = wording.clean(text)
    return shown if len(shown) <= max_length else f"{shown[: max_length - 1]}…"


def _usd_column(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Format a column of amounts with the same number of decimals."""
    return wording.same_decimals([wording.usd(row[name]) for row in rows])


def _query(parameters: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in parameters.items() if value not in (None, "")})


def _json_default(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)

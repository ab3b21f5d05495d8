"""The templates, what they know, and the files that they need."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jinja2

from rlm_cachetrack.formatting import text as wording

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation, CallVerdict

__all__ = ["HERE", "environment", "plotly_script", "verdicts"]

HERE = Path(__file__).parent


def plotly_script() -> Path:
    """Plotly's script, as its wheel carries it."""
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def environment() -> jinja2.Environment:
    """The templates; everything that is put into them is escaped."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in (
        "number",
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
        found.filters[name] = getattr(wording, name)
    found.filters["short"] = _short
    found.filters["query"] = _query
    found.policies["json.dumps_kwargs"] = {"default": _json_default}
    return found


def verdicts(explained: CacheExplanation | None) -> dict[str, CallVerdict]:
    """The verdicts of an explanation by ``interaction_id``."""
    return {} if explained is None else {each["interaction_id"]: each for each in explained["interactions"]}


def _short(text: object, longest: int = 60) -> str:
    shown = wording.clean(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _query(given: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in given.items() if value not in (None, "")})


def _json_default(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)

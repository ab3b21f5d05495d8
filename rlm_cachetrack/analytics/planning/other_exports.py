"""Read the cost exports of OpenRouter and Azure into lines by day and model.

Columns as in files and readers that users published: OpenRouter's activity export (``generation_id``, ``created_at``,
``cost_total``, ``tokens_prompt``, ``model_permaslug``, …; https://openrouter.ai/docs/cookbook/administration/activity-export)
and Azure's cost details (``Date``, ``MeterCategory``, ``MeterSubCategory``, ``CostInBillingCurrency``, …;
https://learn.microsoft.com/azure/cost-management-billing/automate/understand-usage-details-fields); read 2026-12-01.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from rlm_cachetrack.errors import ConfigError

from .openai_exports import Export, Line, number, utc_day

_OPENROUTER = {"created_at", "cost_total", "model_permaslug"}
_AZURE_COSTS = ("costinbillingcurrency", "pretaxcost", "cost")
_AZURE_DAYS = ("date", "usagedate", "usagedatetime")
_AZURE_CURRENCIES = ("billingcurrency", "billingcurrencycode", "currency")
_AZURE_NAMES = ("metercategory", "metersubcategory", "productname", "metername")
_AZURE_DATE_FORMATS = ("%m/%d/%Y", "%Y%m%d")


def read_other_export(path: str | os.PathLike[str]) -> Export | None:
    """Read an export of OpenRouter or Azure; None for any other file. Blocks for the file.

    Raises:
        ConfigError: A row cannot be read; the message names the place and the reason.
    """
    file = Path(path).expanduser()
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text)
            columns = {(name or "").strip().lower() for name in rows.fieldnames or ()}
            if columns >= _OPENROUTER:
                return Export(list(_openrouter(file, rows)), provider="openrouter")
            if "metercategory" in columns and columns & set(_AZURE_COSTS):
                return Export(list(_azure(file, rows)), provider="azure")
    except (OSError, UnicodeDecodeError, csv.Error):
        pass  # the reader of OpenAI's exports, which runs next, reports the error
    return None


def _lower(row: Mapping[str | None, str | None]) -> dict[str, str]:
    return {name.strip().lower(): value.strip() for name, value in row.items() if name and isinstance(value, str)}


def _openrouter(file: Path, rows: csv.DictReader[str]) -> Iterator[Line]:
    for row in map(_lower, rows):
        where = f"{file}:{rows.line_num}"
        cost = _cost(where, row.get("cost_total"))
        if cost is not None:
            yield Line(_day(where, row.get("created_at", "")), row.get("model_permaslug") or None, cost=cost)


def _azure(file: Path, rows: csv.DictReader[str]) -> Iterator[Line]:
    """Yield the costs of OpenAI's models. Their meters name models in abbreviations, so only days are compared."""
    for row in map(_lower, rows):
        where = f"{file}:{rows.line_num}"
        named = " ".join(row.get(name, "") for name in _AZURE_NAMES)
        if "openai" not in named.lower() and "foundry models" not in named.lower():
            continue
        currency = next((row[name] for name in _AZURE_CURRENCIES if row.get(name)), "USD")
        if currency.upper() != "USD":
            raise ConfigError(f"{where}: the cost is in {currency}; expected USD")
        cost = _cost(where, next((row[name] for name in _AZURE_COSTS if row.get(name)), None))
        if cost is not None:
            yield Line(_day(where, next((row[name] for name in _AZURE_DAYS if row.get(name)), "")), cost=cost)


def _cost(where: str, text: str | None) -> float | None:
    return number(where, text) if text else None


def _day(where: str, text: str) -> date:
    for form in _AZURE_DATE_FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).date()
        except ValueError:
            continue
    try:
        return utc_day(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not a date") from None

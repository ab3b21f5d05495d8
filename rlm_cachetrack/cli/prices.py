"""The commands ``prices``, ``prices check`` and ``prices init``: show prices, check a pricing file, create one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rlm_cachetrack.config import DEFAULT_PRICING_FILE, load_settings
from rlm_cachetrack.errors import ConfigError, PricingError, StoreError
from rlm_cachetrack.formatting import NONE, clean, clean_lines, number

from .arguments import AsJson, DbUrl, NotFound, argument, command_line, option, parse_moment
from .output import Column, Figure, counted, print_json, print_line, print_prose, stderr, stdout, table

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook, PriceList, Quote, Rates


class _Prices(TyperGroup):
    """A command group in which ``prices gpt-6.1-sol`` means ``prices show gpt-6.1-sol``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


prices_app = typer.Typer(
    cls=_Prices,
    help="Show prices and their source; check or create a pricing file.",
)

File = Annotated[
    Path | None,
    option(
        "--pricing",
        metavar="FILE",
        help=f"A pricing file. Default: RLM_CACHETRACK_PRICING, else {DEFAULT_PRICING_FILE} if it exists.",
    ),
]


@prices_app.command()
def show(
    models: Annotated[
        list[str] | None, argument(metavar="MODEL", help="The models. Default: those of the pricing file.")
    ] = None,
    provider: Annotated[str | None, option("--provider", metavar="NAME", help="The provider of the model.")] = None,
    tier: Annotated[str | None, option("--tier", metavar="TIER", help="Only this service tier.")] = None,
    at: Annotated[str | None, option("--at", metavar="WHEN", help="Prices at this time: 2026-01-31 (UTC), 7d.")] = None,
    pricing: File = None,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Show the prices of models (USD per 1M tokens) and their source. The default of `prices`."""
    from rlm_cachetrack.pricing import PriceBook

    book = PriceBook.load(load_settings(pricing=pricing).pricing, _stored_list(db_url))
    moment_of = parse_moment(at, "--at")
    names = list(dict.fromkeys(models or book.named_models()))
    quotes = {
        name: [quote for quote in book.quotes(name, provider, moment_of) if tier is None or quote.service_tier == tier]
        for name in names
    }
    if as_json:
        print_json({"source": book.describe(), "per_tokens": 1_000_000, "models": _facts(quotes)})
    else:
        _print(book, quotes)
    if models and not all(quotes.values()):
        unknown = "; ".join(
            _unknown(book, name, provider, tier, moment_of) for name, found in quotes.items() if not found
        )
        raise NotFound(
            f"no price is known for {unknown}. Such calls are unpriced (cost NULL). "
            f"Add a price to a pricing file: `{command_line('prices', 'init')}`"
        )


def _stored_list(db_url: str | None) -> PriceList | None:
    """Return the price list that `prices update` stored; None, and a note, if the database cannot be read."""
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import stored_price_list

    try:
        return stored_price_list(runtime_for(db_url))
    except StoreError:
        stderr().print("The database cannot be read: these are the prices of the installed release.", style="dim")
        return None


def _unknown(book: PriceBook, name: str, provider: str | None, tier: str | None, at: datetime | None) -> str:
    """Return a model and service tier without a price, and the reason."""
    from rlm_cachetrack.pricing import reason_unlisted

    if tier is not None and book.quotes(name, provider, at):
        return f"{name} at {tier}: no price list has this service tier of the model"
    return f"{name}{'' if tier is None else f' at {tier}'}: {reason_unlisted(name, provider)}"


def _facts(quotes: dict[str, list[Quote]]) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "prices": [
                {
                    "service_tier": quote.service_tier,
                    "above_prompt_tokens": quote.above,
                    **dict(zip(_NAMES, _per_million(quote), strict=True)),
                    **{f"per_{name.removesuffix('s')}": price for name, price in _per_unit(quote).items()},
                    **further_facts(quote.rates),
                    "price_source": quote.rates.source,
                }
                for quote in found
            ],
        }
        for name, found in quotes.items()
    ]


_NAMES = ("prompt", "cached", "cache_write", "completion")


def _per_million(quote: Quote) -> list[float | None]:
    return [None if price is None else round(price * 1_000, 9) for price in quote.rates.prices]


def _per_unit(quote: Quote) -> dict[str, float]:
    """Return the prices of units other than tokens in USD, by component."""
    from rlm_cachetrack.pricing import UNITS

    return {name: price for name, price in quote.rates.extras.items() if name in UNITS}


def further_facts(rates: Rates) -> dict[str, dict[str, float]]:
    """Return the prices other than the four text prices, by kind; without empty kinds."""
    from rlm_cachetrack.pricing import TOKEN_ITEMS, UNITS

    facts = {
        "further_tokens": {
            name: round(price * 1_000, 9) for name, price in rates.extras.items() if name in TOKEN_ITEMS
        },
        "per_use": {
            name: price for name, price in rates.extras.items() if name not in TOKEN_ITEMS and name not in UNITS
        },
        "regions": dict(rates.regions),
        "windows": dict(rates.windows),
        "speeds": dict(rates.speeds),
    }
    return {kind: prices for kind, prices in facts.items() if prices}


def further_texts(rates: Rates) -> Iterator[str]:
    """Yield the prices other than the four text prices, by their keys in the pricing file."""
    facts = further_facts(rates)
    for name, price in facts.get("further_tokens", {}).items():
        yield f"{_key(name)} {unit_price(price)}"
    for name, price in facts.get("per_use", {}).items():
        yield f"{'per_request' if name == 'request' else name} {unit_price(price)} per use"
    for kind in ("regions", "windows", "speeds"):
        for name, factor in facts.get(kind, {}).items():
            label = f"other {kind}" if name == "*" else f"{kind.removesuffix('s')} {name}"
            yield f"{label} x {factor:g}"


def _key(item: str) -> str:
    modality, _, part = item.partition("_")
    return f"{modality}.{part}" if part in ("prompt", "cached", "completion") else item


def unit_price(price: float | None, decimals: int = 2) -> str:
    """Format a price exactly, with at least ``decimals`` decimals."""
    return NONE if price is None else f"${price:,.{max(decimals, _decimals(price))}f}"


def _decimals(price: float) -> int:
    return len(f"{price:.9f}".rstrip("0").partition(".")[2])


class PriceFigure(Figure):
    """A column of prices: aligned to the right, exact, with the same number of decimals."""

    def cells(self, index: int, rows: Iterable[Any]) -> list[str]:
        """Return the texts of the column with this index."""
        prices: list[float | None] = self.values(index, rows)
        decimals = max((_decimals(price) for price in prices if price is not None), default=0)
        return [unit_price(price, max(2, decimals)) for price in prices]


def _print(book: PriceBook, quotes: dict[str, list[Quote]]) -> None:
    console = stdout()
    if not quotes:
        console.print(
            f"Prices: {book.describe()}. `{command_line('prices', 'gpt-6.1-sol')}` shows the prices of a model."
        )
        return
    columns = [
        Column("Model", flexible=True, style="bold"),
        Column("Tier"),
        Figure("Above"),
        PriceFigure("Prompt"),
        PriceFigure("Cached"),
        PriceFigure("Write"),
        PriceFigure("Completion"),
    ]
    rows = []
    sources: dict[str, dict[str, None]] = {}
    units: dict[str, None] = {}
    further: dict[str, str] = {}
    for name, found in quotes.items():
        for quote in found:
            above = number(quote.above) if quote.above else ""
            for unit, price in _per_unit(quote).items():
                units[f"{clean(name)}: ${price:.4g} per {unit.replace('_', ' ').removesuffix('s')}"] = None
            if name not in further:  # of the first tier and short prompts; the others change in the same ratio
                further[name] = "; ".join(further_texts(quote.rates))
            rows.append((clean(name), quote.service_tier, above, *_per_million(quote)))
            sources.setdefault(quote.rates.source, {})[name] = None
        if not found:
            tier = "(see the file)" if name.endswith("*") or name.startswith("/") else NONE
            rows.append((clean(name), tier, "", None, None, None, None))
    console.print(table(columns, rows, console.width))
    for line in units:
        print_line(console, "units", line, indent=6)
    for name, text in further.items():
        if text:
            print_line(console, "also", f"{clean(name)}: {text}", indent=6)
    for source, priced in sources.items():
        print_line(console, "from", f"{source}: {', '.join(priced)}", indent=6)
    note = "; Above: prices of the whole call if its prompt has more tokens" if any(row[2] for row in rows) else ""
    print_prose(console, f"USD per 1M tokens{note}. Prices: {book.describe()}", "dim")


@prices_app.command()
def check(
    file: Annotated[Path, argument(metavar="FILE", help="A pricing file.")],
    as_json: AsJson = False,
) -> None:
    """Check a pricing file: list every mistake with its line. Exit code 1 if there are any."""
    from rlm_cachetrack.pricing import PriceBook

    try:
        book, mistakes = PriceBook.load(file), []
    except PricingError as exc:
        book, mistakes = None, str(exc).splitlines()
    if as_json:
        print_json({"ok": not mistakes, "mistakes": mistakes, "file": str(file)})
    elif book is not None:
        print_prose(stdout(), f"No mistakes: {book.describe()}")
    else:
        print_prose(stderr(), clean_lines("\n".join(mistakes)))
        stderr().print(f"{counted(len(mistakes), 'mistake')}.", style="red")
    raise typer.Exit(0 if book is not None else 1)


@prices_app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; - is the standard output.")] = Path(
        DEFAULT_PRICING_FILE
    ),
    force: Annotated[bool, option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Create a pricing file with comments that explain it."""
    from rlm_cachetrack.pricing import example, schema_path

    text = f"# yaml-language-server: $schema={schema_path().as_uri()}\n{example()}"
    if str(file) == "-":
        sys.stdout.write(text)
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ConfigError(f"{file} already exists; --force overwrites it") from None
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}") from exc
    print_prose(stdout(), f"Wrote {file}. Programs started in this directory use it.")

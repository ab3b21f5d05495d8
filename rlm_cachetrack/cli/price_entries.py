"""The command ``prices add``: write the prices of one model into the pricing file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from rlm_cachetrack.config import DEFAULT_PRICING_FILE, load_settings
from rlm_cachetrack.errors import ConfigError, PricingError
from rlm_cachetrack.formatting import clean

from .arguments import DbUrl, argument, command_line, open_client, option
from .output import counted, print_prose, slow_status, stdout
from .prices import File


def add_price(
    model: Annotated[str, argument(metavar="MODEL", help="The name of the model, as stored.")],
    prompt: Annotated[float | None, option("--prompt", metavar="USD", help="Price of input, per 1M tokens.")] = None,
    cached: Annotated[
        float | None,
        option("--cached", metavar="USD", help="Input read from the cache. Default: --prompt."),
    ] = None,
    cache_write: Annotated[
        float | None,
        option("--cache-write", metavar="USD", help="Input written to the cache."),
    ] = None,
    completion: Annotated[float | None, option("--completion", metavar="USD", help="Output.")] = None,
    more: Annotated[
        list[str] | None,
        option(
            "--set",
            metavar="NAME=USD",
            help="Any other price or factor of the file: audio.prompt=32, tools.web_search=0.01 (USD for one use), "
            "tiers.flex=0.5. Can be repeated.",
        ),
    ] = None,
    provider: Annotated[str | None, option("--provider", metavar="NAME", help="Only for this provider.")] = None,
    reprice: Annotated[
        bool,
        option("--reprice", help="Then re-price the stored calls of the model that have no price."),
    ] = False,
    pricing: File = None,
    db_url: DbUrl = None,
) -> None:
    """Write the prices of a model (USD per 1M tokens) into the pricing file; its comments are kept.

    A new entry for a listed model, without --prompt and --completion, takes all other prices from the list.
    """
    given = {"prompt": prompt, "cached": cached, "cache_write": cache_write, "completion": completion}
    values: dict[str, float | str] = {name: value for name, value in given.items() if value is not None}
    values.update(_parsed(one) for one in more or ())
    if not values:
        raise ConfigError(f"prices add {model} needs at least one price, such as --prompt 2 --completion 8")
    path = (
        load_settings(pricing=pricing).pricing or Path(DEFAULT_PRICING_FILE)
    ).resolve()  # the file itself, not a symbolic link to it
    _write(path, model, values, provider)
    console = stdout()
    prices = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
    print_prose(console, f"{path}: {clean(model)} has {prices} (tokens: USD per 1M).")
    if not reprice:
        command = command_line("reprice", "--unpriced", "--model", model)
        print_prose(console, f"Running programs use it with their next batch. Stored calls: `{command}`")
        return
    with open_client(db_url) as client, slow_status("re-pricing"):
        change = client.reprice(path, unpriced=True, model=model)["change"]
    count = 0 if change is None else change["changed_interactions"]
    print_prose(console, f"{counted(count, 'stored call')} priced.")


def _parsed(text: str) -> tuple[str, float | str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise ConfigError(f"--set {text!r}: expected NAME=USD, such as tiers.flex=0.5")
    try:
        return name.strip(), float(value)
    except ValueError:
        return name.strip(), value.strip()


def _write(path: Path, model: str, values: dict[str, float | str], provider: str | None) -> None:
    """Write the entry if the file has no mistakes then; the file is replaced in one step."""
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.pricing.file import with_entry

    path = path.resolve()  # a symbolic link is kept
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a file")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        book = PriceBook.load(path if before else None)  # mistakes that the file already has are reported separately
        text = with_entry(before, model, values, provider, is_listed=bool(book.quotes(model, provider)))
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".rlm_cachetrack-") as folder:
            changed = Path(folder) / path.name
            changed.write_text(text, encoding="utf-8")
            if path.exists():
                changed.chmod(path.stat().st_mode)
            try:
                PriceBook.load(changed)
            except PricingError as exc:
                raise PricingError(f"nothing was changed: {str(exc).replace(str(changed), str(path))}") from None
            changed.replace(path)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc

"""Measure the number of calls that one thread prices per second, with warm caches. Target: at least 200,000.

Each figure is the median of rounds with its quartiles, over the same 20,000 calls: twelve models of four providers at
five tiers, prompts on both sides of 272,000 tokens, prices that changed, prices by the time of day, and models without
a price.

The first pass is not counted: it looks up the prices of each model and caches them, as the writer does.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.usage.reading import TokenUsage

CALLS = int(os.environ.get("CALLS", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "21"))
TARGET = 200_000

MODELS = [
    ("gpt-5", "openai"),
    ("gpt-5-mini-2025-08-07", "openai"),
    ("gpt-5.4", "openai"),
    ("gpt-5.6-sol", "openai"),
    ("o3", "openai"),
    ("gpt-4o", "azure"),
    ("gpt-4.1", "azure"),
    ("claude-sonnet-4-20250514", "anthropic"),
    ("openai/gpt-5", "openrouter"),
    ("deepseek-v4-flash", "deepseek"),
    ("llama-3.3-70b-versatile", "groq"),
    ("our-own-model", "vllm"),
]
TIERS = [None, None, None, "default", "flex", "priority", "batch"]  # most calls are served at the base tier
FILE = """\
version: 1
per: 1M
models:
  our-*: {provider: vllm, prompt: 0.2, cached: 0.05, completion: 0.4}
  gpt-4.1:
    - {valid_to: 2026-06-01, prompt: 2, cached: 0.5, completion: 8}
    - {valid_from: 2026-06-01, prompt: 1.8, cached: 0.45, completion: 7}
discounts: {azure: 0.9}
"""

Call = tuple[TokenUsage, str, str, str | None, datetime]


def calls() -> list[Call]:
    """Return the same calls in every run."""
    rng = random.Random(7)
    made = []
    for _ in range(CALLS):
        prompt = rng.choice((900, 12_000, 150_000, 300_000)) + rng.randrange(500)
        usage = TokenUsage(
            prompt_tokens=prompt,
            completion_tokens=rng.randrange(4_000),
            cached_tokens=rng.choice((None, 0, prompt // 2)),
            cache_write_tokens=rng.choice((None, None, prompt // 4)),
        )
        model, provider = rng.choice(MODELS)
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(470_000))
        made.append((usage, model, provider, rng.choice(TIERS), at))
    return made


def rates(work: Callable[[], object]) -> list[float]:
    """Return the calls per second of each round."""
    found = []
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        taken = time.perf_counter() - start
        if number:
            found.append(CALLS / taken)
    return found


def spread(values: Sequence[float]) -> str:
    """Return the median, with the first and third quartile."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:,.0f} ({low:,.0f} … {high:,.0f})"


def main() -> None:
    """Measure, and print a table."""
    made = calls()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prices.yaml")
        path.write_text(FILE, encoding="utf-8")
        books = {"the built-in table": PriceBook.load(None), "a pricing file over it": PriceBook.load(path)}
    print(f"| calls per second, {ROUNDS} rounds | priced | have a price | target |")
    print("|---|--:|--:|--:|")
    for name, book in books.items():

        def price_all(book: PriceBook = book) -> None:
            cost = book.cost
            for usage, model, provider, tier, at in made:
                cost(usage, model=model, provider=provider, service_tier=tier, at=at)

        known = sum(
            book.cost(usage, model=model, provider=provider, service_tier=tier, at=at).total_cost is not None
            for usage, model, provider, tier, at in made
        )
        print(f"| {name} | {spread(rates(price_all))} | {known / CALLS:.0%} | ≥ {TARGET:,} |")


if __name__ == "__main__":
    main()

"""Use your own prices: for a contract, a deployment with its own name, or a model in no price list.

::

    python examples/price_override.py           # offline, against a simulated endpoint
    python examples/price_override.py --live    # the real API: OPENAI_API_KEY, a few cents
"""

from pathlib import Path

from _endpoint import LIVE, endpoint
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run

PRICES = Path(__file__).with_name("price_override.yaml")

TEXT = "You count words. " + " ".join(
    f"Line {number}: a word is what stands between two spaces." for number in range(1, 151)
)
CALLS = [
    ("gpt-5.4", "default"),  # served as gpt-5.4-2026-03-05, priced by the entry of gpt-5.4
    ("gpt-5.4", "default"),  # again: now most of the prompt is read from the cache
    ("gpt-5.4", "flex"),  # half the price, according to the file
    ("gpt-5.4-mini", "default"),  # not in the file: the built-in table applies
]
if not LIVE:
    CALLS += [
        ("my-azure-deployment", "default"),  # an alias of gpt-5.4
        ("our-own-model", "default"),  # priced only by the file
    ]

with endpoint() as where:
    # An error in the file raises PricingError here, with its line and key, before any call is paid for.
    client = instrument(OpenAI(**where), pricing=PRICES)

    with query_run("example-prices") as run:
        for model, tier in run.iterations(CALLS):
            client.chat.completions.create(
                model=model,
                service_tier=tier,
                messages=[{"role": "system", "content": TEXT}, {"role": "user", "content": "How many words?"}],
            )

print(f"  {'model served':<25}{'tier':<9}{'in / cached / out':<23}{'cost':<10}price from")
with TimescaleDBClient() as db:
    for call in db.get_llm_interactions(run.query_id, run.run_id):
        # A call keeps the prices that were applied to it, in USD per 1,000 tokens, and their source.
        names = ("prompt", "cached", "completion")
        prices = " / ".join(f"{call[f'{name}_token_price'] * 1000:g}" for name in names)
        cost, source = call["total_cost"], call["price_source"]
        print(f"  {call['model']:<25}{call['service_tier']:<9}{prices:<23}{cost:<10.6f}{source}")
print("\nprices in USD per 1M tokens, cost in USD")

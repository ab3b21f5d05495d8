"""Show what the cache saves by run and by model, and which costs are not known.

::

    python examples/cost_analysis.py           # offline, against a simulated endpoint
    python examples/cost_analysis.py --live    # the real API: OPENAI_API_KEY, a few cents
"""

from datetime import UTC, datetime

from _endpoint import LIVE, endpoint
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run

MANUAL = "You explain a coffee machine. " + " ".join(
    f"Step {number}: check the water, then the beans, then press the button." for number in range(1, 121)
)
QUESTIONS = ["How do I start it?", "It leaks. Why?", "How do I clean it?", "Is decaf possible?"]
MODELS = ["gpt-5.5", "gpt-5.4", "gpt-5.4-mini"]
if not LIVE:
    MODELS.append("our-own-model")  # in no price list


def shown(value: float | None, spec: str) -> str:
    """Format a value that may be None, which means not known. Shown as 0 it would mean "free" or "never cached"."""
    return "unknown" if value is None else format(value, spec)


began = datetime.now(UTC)
with endpoint() as where:
    client = instrument(OpenAI(**where))
    for model in MODELS:
        with query_run(f"example-cost/{model}") as run:
            for question in run.iterations(QUESTIONS):
                client.chat.completions.create(
                    model=model,
                    messages=[{"role": "system", "content": MANUAL}, {"role": "user", "content": question}],
                )

# Everything below comes from the database: another process can read it too, also next week.
with TimescaleDBClient() as db:
    top = db.get_top_cache_savings(limit=5)  # among all runs in the database with a known cost
    models = db.get_cache_effectiveness_by_model(since=began)  # without since: all time

print("Runs with the highest savings, in USD\n")
print(f"  {'run':<26}{'calls':>6}{'full price':>12}{'paid':>10}{'saved':>10}{'saved %':>9}")
for row in top:
    percentage = shown(row["cost_savings_percentage"], ".1f")  # a percentage is 0 to 100
    print(
        f"  {row['query_id']:<26}{row['total_interactions']:>6}{row['original_cost']:>12.6f}"
        f"{row['cached_cost']:>10.6f}{row['cost_savings']:>10.6f}{percentage:>9}"
    )

print("\nBy model since this example started, in USD\n")
print(f"  {'model':<26}{'calls':>6}{'full price':>12}{'paid':>10}{'saved':>10}{'hit rate':>9}")
for row in models:
    full, paid, saved = (shown(row[name], ".6f") for name in ("original_cost", "total_cost", "cost_savings"))
    rate = shown(row["avg_cache_hit_rate"], ".1%")  # a rate is 0 to 1; this one is weighted by tokens
    print(f"  {row['model']:<26}{row['total_interactions']:>6}{full:>12}{paid:>10}{saved:>10}{rate:>9}")

total = sum(row["total_cost"] for row in models if row["total_cost"] is not None)
unpriced = sum(row["unpriced_interactions"] for row in models)
print(f"\npaid {total:.6f} USD; {unpriced} calls have no known price and are not in that sum")
if unpriced:
    print("price_override.py shows how to set the price of a model")

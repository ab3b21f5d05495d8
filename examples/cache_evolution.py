"""Show how the cache works from turn to turn of a conversation, and how one careless line breaks it.

::

    python examples/cache_evolution.py           # offline, against a simulated endpoint
    python examples/cache_evolution.py --live    # the real API: OPENAI_API_KEY, about a cent
"""

from datetime import datetime

from _endpoint import endpoint
from openai import OpenAI

from rlm_cachetrack import QueryRun, instrument, query_run

GUIDE = "You help to read a contract. " + " ".join(
    f"Point {number}: quote the clause you speak of before you explain it." for number in range(1, 91)
)
CHAPTERS = [
    f"Chapter {chapter}. " + f"Clause {chapter} binds both parties for the time agreed. " * 20 + "What does it say?"
    for chapter in range(1, 7)
]


def converse(client: OpenAI, run: QueryRun, *, clock_first: bool) -> None:
    """Discuss the chapters one after the other; each turn sends the whole conversation so far."""
    history = []
    for chapter in run.iterations(CHAPTERS):
        history.append({"role": "user", "content": chapter})
        # The cache matches prompts from the start: after one changed character nothing can be read from the cache.
        guide = f"Now: {datetime.now()}. {GUIDE}" if clock_first else GUIDE
        response = client.chat.completions.create(
            model="gpt-5.4-mini", messages=[{"role": "system", "content": guide}, *history]
        )
        history.append({"role": "assistant", "content": response.choices[0].message.content})


def report(title: str, run: QueryRun) -> None:
    """Print a bar for each turn: its length is the prompt, the filled part came from the cache."""
    saved = run.optimization()
    longest = max(step["prompt_tokens"] for step in saved["cache_evolution"])
    print(f"{title}\n")
    print("  turn   prompt   cached")
    for step in saved["cache_evolution"]:
        length = round(40 * step["prompt_tokens"] / longest)
        filled = round(40 * step["cached_tokens"] / longest)
        bar = "█" * filled + "░" * (length - filled)
        numbers = f"{step['iteration']:>6}{step['prompt_tokens']:>9,}{step['cached_tokens']:>9,}"
        print(f"{numbers}  {bar:<40} {step['cache_hit_rate']:>4.0%}")
    print(
        f"\n  paid {saved['cached_cost']:.6f} of {saved['original_cost']:.6f} USD: "
        f"the cache saved {saved['cost_savings_percentage']:.1f}%\n"
    )


with endpoint() as where:
    client = instrument(OpenAI(**where))

    with query_run("example-evolution", metadata={"prefix": "stable"}) as stable:
        converse(client, stable, clock_first=False)

    with query_run("example-evolution", metadata={"prefix": "broken"}) as broken:
        converse(client, broken, clock_first=True)

print("█ read from the cache   ░ paid in full\n")
report("A growing conversation: each turn reads the turns before it.", stable)
report("The same with the time of day at the start: no turn starts like the one before.", broken)
print("Text that changes belongs at the end of a prompt: move the time into the last message.")

"""Watch the cache work from turn to turn of a conversation, and then what one careless line does to it.

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
    """Discuss the chapters one after the other; each turn sends all that was said before."""
    said = []
    for chapter in run.iterations(CHAPTERS):
        said.append({"role": "user", "content": chapter})
        # The cache knows a prompt by its beginning. One changed character there, and nothing after it can be read.
        guide = f"Now: {datetime.now()}. {GUIDE}" if clock_first else GUIDE
        answer = client.chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "system", "content": guide}, *said]
        )
        said.append({"role": "assistant", "content": answer.choices[0].message.content})


def report(title: str, run: QueryRun) -> None:
    """Print a bar for each turn: as long as its prompt, filled as far as it came from the cache."""
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
report("The same, but the time of day stands in front: no turn begins like the one before.", broken)
print("What changes belongs at the end of a prompt: move the time into the last message.")

"""Record every call of an OpenAI client with one line, and see what the prompt cache saved.

::

    python examples/basic_cache_tracking.py           # offline, against a simulated endpoint
    python examples/basic_cache_tracking.py --live    # the real API: OPENAI_API_KEY, less than a cent
"""

from _endpoint import endpoint
from openai import OpenAI

from rlm_cachetrack import instrument, query_run

# OpenAI caches the start of a prompt of at least 1,024 tokens, so the constant part comes first and is long enough.
RULES = "You work at a help desk. " + " ".join(
    f"Rule {number}: answer in one sentence, politely, and name the rule you followed." for number in range(1, 101)
)
QUESTIONS = [
    "My invoice is wrong. What now?",
    "How do I change my address?",
    "Can I pay by card?",
    "Where is my parcel?",
    "How do I close my account?",
]

with endpoint() as where:
    client = instrument(OpenAI(**where))  # The only added line. The client works as before.

    with query_run("example-basic") as run:  # A run groups the calls that belong together.
        for question in run.iterations(QUESTIONS):  # Numbers them 1, 2, 3, …
            client.chat.completions.create(
                model="gpt-5.4-mini",
                messages=[
                    {"role": "system", "content": RULES},
                    {"role": "user", "content": question},  # The part that changes comes last.
                ],
            )

# Calls are stored in the background. Reading waits until all of them are stored.
summary = run.summary()
saved = run.optimization()

print(f"run {run.query_id} of {run.run_id:%Y-%m-%d %H:%M:%S} UTC\n")
print(f"  calls                  {summary['total_interactions']:>10}")
print(f"  … that hit the cache   {summary['interactions_with_cache']:>10}")
print(f"  prompt tokens          {summary['total_prompt_tokens']:>10,}")
print(f"  … read from the cache  {summary['total_cached_tokens']:>10,}")
print(f"  cache hit rate         {summary['cache_hit_rate']:>10.1%}")  # a rate is a fraction, 0 to 1
print(f"  cost                   {saved['cached_cost']:>10.6f} USD")
print(f"  … without the cache    {saved['original_cost']:>10.6f} USD")
print(f"  … saved                {saved['cost_savings']:>10.6f} USD ({saved['cost_savings_percentage']:.1f}%)")

"""The same task twice: recorded by hand with TimescaleDBClient, and instrumented, with a recursive asyncio agent.

::

    python examples/real_world_integration.py           # offline, against a simulated endpoint
    python examples/real_world_integration.py --live    # the real API: OPENAI_API_KEY, a few cents
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from _endpoint import endpoint
from openai import AsyncOpenAI, BadRequestError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from rlm_cachetrack import LLMInteractionRecord, QueryRun, TimescaleDBClient, instrument, query_run

MODEL = "gpt-5.4-mini"
BRIEFING = "You plan journeys. " + " ".join(
    f"Hint {number}: name the train, the hour and the price of what you propose." for number in range(1, 101)
)
QUESTIONS = ["From Lisbon to Porto?", "From Porto to Braga?", "From Braga to Vigo?"]


def prompt(question: str) -> list[Any]:
    return [{"role": "system", "content": BRIEFING}, {"role": "user", "content": question}]


# --- 1. By hand: for a program that already logs its calls. Code for rlm.logger needs only another import. ---


def ask_and_record(db: TimescaleDBClient, client: OpenAI, key: dict[str, Any], messages: list[Any]) -> ChatCompletion:
    """Make one call and record it. Missing fields come from the context, prices from the price table."""
    began = datetime.now(UTC)
    try:
        response = client.chat.completions.create(model=MODEL, messages=messages)
    except OpenAIError as error:
        failure = {"success": False, "error_type": type(error).__name__, "error_message": str(error)}
        # None means "not reported". The default, 0, would mean "reported, and nothing was cached".
        record = LLMInteractionRecord(**key, model=MODEL, cached_tokens=None, start_time=began, **failure)
        db.record_llm_interaction(record)
        raise
    db.record_llm_interaction(
        LLMInteractionRecord(
            **key,
            model=response.model,
            prompt_tokens=response.usage.prompt_tokens,  # all input tokens, including cached ones
            completion_tokens=response.usage.completion_tokens,
            cached_tokens=response.usage.prompt_tokens_details.cached_tokens,
            start_time=began,
            end_time=datetime.now(UTC),
        )
    )
    return response


def by_hand(client: OpenAI) -> None:
    key = {"query_id": "example-by-hand", "run_id": datetime.now(UTC)}  # run_id: the start time, with a time zone
    with TimescaleDBClient() as db:
        db.initialize_query_run(**key, metadata={"task": "journeys"})
        db.set_context(**key, model_type="root", current_depth=0)
        for iteration, question in enumerate(QUESTIONS, start=1):
            db.set_context(iteration=iteration)  # changes only the given fields
            ask_and_record(db, client, key, prompt(question))
        try:
            ask_and_record(db, client, key, [])  # the API refuses an empty prompt
        except BadRequestError as error:
            print(f"  rejected and recorded: {type(error).__name__} {error.status_code}")
        db.complete_query_run(**key)

        # All reads see what was recorded before them.
        saved = db.calculate_and_store_cache_optimization(**key)
        assert saved == db.get_token_cache_optimization(**key)  # the same values, read from the database
        summary = db.get_token_cache_summary(**key)
        best = db.get_top_cache_savings(limit=1)[0]
        models = db.get_cache_effectiveness_by_model(since=key["run_id"])
        status = db.get_query_run_summary(**key)["status"]
    print(f"  {summary['total_interactions']} calls, {summary['failed_interactions']} failed, run {status}")
    print(f"  hit rate {summary['cache_hit_rate']:.1%}, saved {saved['cost_savings']:.6f} USD")
    print(f"  most is saved in {best['query_id']}: {best['cost_savings']:.6f} USD")
    for row in models:
        print(f"  {row['model']:<24}{row['total_interactions']:>3} calls{row['total_cached_tokens']:>8,} cached tokens")


# --- 2. Instrumented: no recording by hand, and depth and parents of each call are known too. ---


async def explore(client: AsyncOpenAI, run: QueryRun, question: str, depth: int = 0) -> None:
    """Run a recursive agent: it calls the model, then runs two copies of itself, one for each half of the question."""
    await client.chat.completions.create(model=MODEL, messages=prompt(question))
    if depth < 2:

        async def look_into(part: str) -> None:
            # One level deeper. The level belongs to the asyncio task, so concurrent tasks do not mix.
            async with run.recursion(model_type="sub", max_depth=2):
                await explore(client, run, f"{question} {part}", depth + 1)

        await asyncio.gather(look_into("Only the fast trains."), look_into("Only the cheap trains."))


async def instrumented(where: dict[str, Any]) -> None:
    async with instrument(AsyncOpenAI(**where)) as client:
        async with query_run("example-agent", metadata={"task": "journeys"}) as run:
            for question in run.iterations(QUESTIONS[:2]):
                await explore(client, run, question)

        # A failed call is recorded and its exception propagates unchanged. Leaving the run, it sets the status "error".
        try:
            async with query_run("example-failing") as failing:
                await client.chat.completions.create(model=MODEL, messages=[])
        except BadRequestError as error:
            print(f"  rejected and recorded: {type(error).__name__} {error.status_code}")

    # Reading blocks, so it runs on a thread of its own.
    await asyncio.to_thread(report, run, failing)


def report(run: QueryRun, failing: QueryRun) -> None:
    with TimescaleDBClient() as db:
        calls = db.get_llm_interactions(run.query_id, run.run_id)
        failed = db.get_query_run_summary(failing.query_id, failing.run_id)
    print("  depth  calls  branches  hit rate")
    for depth in sorted({call["current_depth"] for call in calls}):
        level = [call for call in calls if call["current_depth"] == depth]
        branches = len({call["recursion_id"] for call in level})
        rate = sum(call["cached_tokens"] for call in level) / sum(call["prompt_tokens"] for call in level)
        print(f"  {depth:>5}{len(level):>7}{branches:>10}{rate:>10.1%}")
    saved = run.optimization()
    print(f"  {saved['total_interactions']} calls, saved {saved['cost_savings']:.6f} USD")
    print(f"  {failing.query_id}: {failed['failed_interactions']} failed, run {failed['status']}")


with endpoint() as where:
    print("by hand")
    by_hand(OpenAI(**where))  # not instrumented: a call must not be recorded twice

    print("\ninstrumented")
    asyncio.run(instrumented(where))

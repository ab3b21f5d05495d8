"""Record the runs that the commands of the documentation name, against the simulated endpoint.

The environment has the endpoint and the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from openai import OpenAI

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run, tags

HANDBOOK = "You answer questions about the staff handbook. " * 200
MODEL = "gpt-5.4"


def conversation(
    client: OpenAI, query: str, *, steps: int = 4, changed_at: int | None = None, run_id: datetime | None = None
) -> None:
    """Record a run whose prompt grows; at one step the beginning of the prompt changes."""
    messages = [{"role": "system", "content": HANDBOOK}]
    with query_run(query, run_id=run_id, metadata={"agent": "fast" if changed_at else "thorough"}) as run:
        for step in run.iterations(range(1, steps + 1)):
            if step == changed_at:
                messages[0] = {"role": "system", "content": f"It is {step} o'clock. {HANDBOOK}"}
            messages.append({"role": "user", "content": f"Question {step}?"})
            with tags(user=f"u-{step}", feature="search"):
                answer = client.chat.completions.create(model=MODEL, messages=messages)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
            with run.recursion(model_type="sub"):
                client.chat.completions.create(model="gpt-5.4-mini", messages=messages[:1])
        run.record_outcome(success=changed_at is None, score=0.5)


def history(db: TimescaleDBClient) -> None:
    """Record calls of the past three weeks, so that there is a forecast."""
    now = datetime.now(UTC)
    for day in range(1, 22):
        begun = now - timedelta(days=day)
        db.record_llm_interaction(
            LLMInteractionRecord(
                "history",
                begun,
                MODEL,
                prompt_tokens=10_000 + 100 * day,
                completion_tokens=200,
                cached_tokens=6_000,
                start_time=begun,
                provider="openai",
            )
        )


def main() -> None:
    """Record everything."""
    client = instrument(OpenAI())
    for query in ("benchmark-001", "before", "bench", "benchmark"):
        conversation(client, query, changed_at=3)
        conversation(client, query)
    for _ in range(2):
        conversation(client, "after")
    conversation(client, "bench", run_id=datetime(2026, 11, 20, 9, tzinfo=UTC))
    conversation(client, "benchmark", run_id=datetime(2026, 12, 1, 14, 5, tzinfo=UTC))
    with TimescaleDBClient() as db:
        history(db)
        db.set_budget(100.0)


if __name__ == "__main__":
    main()

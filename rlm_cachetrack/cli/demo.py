"""``demo``: record a recursive agent's conversation through the real OpenAI SDK, and report on it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import CacheTrackError, ConfigError
from rlm_cachetrack.formatting import duration, number

from .arguments import AsJson, DbUrl, Yes, command_line, confirm, open_client, option
from .demo_agent import ITERATIONS, MISTAKE_IN, answer_question
from .output import print_json, print_line, stderr, stdout
from .run_view import print_report

if TYPE_CHECKING:
    from openai import OpenAI

    from rlm_cachetrack.client import TimescaleDBClient

_SIMULATED = ("gpt-5.4", "gpt-5.4-mini")
_LIVE = ("gpt-6.1-terra", "gpt-6-luna")


class DemoError(CacheTrackError):
    """A call of the demo to the real API failed."""


def demo(
    live: Annotated[bool, option("--live", help="Call the real API with OPENAI_API_KEY; costs a few cents.")] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model of the agent. Default: gpt-5.4; with --live, gpt-6.1-terra."),
    ] = None,
    sub_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Model that the agent recurses to. Default: gpt-5.4-mini; with --live, gpt-6-luna."
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Record a demonstration agent and show what the prompt cache saved. Needs no account."""
    from rlm_cachetrack.analytics import run_report

    if disabled():
        raise ConfigError("RLM_CACHETRACK_DISABLED is set, so the demo would record nothing. Unset it.")
    default, default_sub = _LIVE if live else _SIMULATED
    agents = (model or default, sub_model or default_sub)
    if live:
        _confirm_live(agents, yes)
    # with --json, stdout contains only the report
    console = stderr() if as_json else stdout()
    query_id = f"demo-{datetime.now(UTC):%m%d-%H%M%S}"
    with _database(db_url, console) as client:
        run_id = _live(client, query_id, agents, console) if live else _simulated(client, query_id, agents, console)
        report = run_report(client.reader(), query_id, run_id)
    if report is None:
        raise ConfigError(f"the demo's run was deleted while it ran: query {query_id!r}")
    if as_json:
        print_json({**report, "other_runs": 0})
        return
    console.print()
    print_report(console, report)
    console.print()
    console.print(
        f"In iteration {MISTAKE_IN} the agent put the time of day at the start of its prompt. That changed the prefix, "
        "so only the prompt of its sub-agent could come from the cache.\n",
        style="dim",
    )
    _print_next_steps(console, query_id, db_url)


def _confirm_live(agents: tuple[str, str], yes: bool) -> None:
    if not os.environ.get("OPENAI_API_KEY"):
        raise ConfigError("--live needs an API key in OPENAI_API_KEY. Without --live, the demo needs no account.")
    if yes:
        return
    stderr().print(
        f"--live sends about 13 requests to {agents[0]} and {agents[1]}: about 45,000 input tokens and at most 20,000 "
        "output tokens. With the default models this costs a few US cents, charged to your account."
    )
    confirm("Continue?")


@contextlib.contextmanager
def _database(db_url: str | None, console: Console) -> Iterator[TimescaleDBClient]:
    from rlm_cachetrack.pipeline import diagnostics

    started = time.perf_counter()
    with console.status("Connecting to the database …"):
        client = open_client(db_url)
    with client:
        facts = diagnostics.describe_store(client.runtime)
        took = duration((time.perf_counter() - started) * 1000)
        _print_step(console, "database", f"{facts['engine']}, ready after {took}")
        _print_step(console, "", facts["address"])
        yield client


def _simulated(client: TimescaleDBClient, query_id: str, agents: tuple[str, str], console: Console) -> datetime:
    from openai import DefaultHttpxClient, OpenAI

    from rlm_cachetrack.simulator import SimulatedEndpoint

    with SimulatedEndpoint() as endpoint:
        _print_step(console, "endpoint", f"simulated at {endpoint.base_url}: caches by OpenAI's rules, without a model")
        # A proxy from the environment would be used for loopback too.
        with (
            DefaultHttpxClient(trust_env=False) as http,
            OpenAI(base_url=endpoint.base_url, api_key="simulated", http_client=http) as sdk,
        ):
            return _converse(sdk, client, query_id, agents, console)


def _live(client: TimescaleDBClient, query_id: str, agents: tuple[str, str], console: Console) -> datetime:
    from openai import OpenAI, OpenAIError

    with OpenAI() as sdk:
        _print_step(console, "endpoint", f"{sdk.base_url}")
        try:
            return _converse(sdk, client, query_id, agents, console)
        except OpenAIError as exc:
            # The message of the SDK may quote the request, or parts of the key.
            status, code = getattr(exc, "status_code", None), getattr(exc, "code", None)
            details = ", ".join([f"HTTP {status}"] * bool(status) + [str(code)] * bool(code))
            raise DemoError(
                f"a call to the API failed: {type(exc).__name__}{f' ({details})' if details else ''}; "
                f"the failure is recorded: `{command_line('show', query_id=query_id)}`"
            ) from exc


def _converse(
    sdk: OpenAI, client: TimescaleDBClient, query_id: str, agents: tuple[str, str], console: Console
) -> datetime:
    from rlm_cachetrack import instrument, query_run, uninstrument

    _print_step(
        console,
        "agent",
        f"{agents[0]} recursing to {agents[1]}, {ITERATIONS} iterations, through the OpenAI SDK {version('openai')}",
    )
    started = time.perf_counter()
    instrument(sdk, store=client)
    try:
        with console.status("The agent is running …"), query_run(query_id, metadata={"demo": True}) as run:
            answer_question(sdk, run, *agents)
        took = duration((time.perf_counter() - started) * 1000)
        calls = client.get_llm_interactions(query_id, run.run_id)
        _print_step(
            console, "recorded", f"{number(len(calls))} calls in {took}; this report is read from the database:"
        )
    finally:
        uninstrument(sdk)
    return run.run_id


def _print_step(console: Console, name: str, text: str) -> None:
    print_line(console, name, text, indent=10)


def _print_next_steps(console: Console, query_id: str, db_url: str | None) -> None:
    console.print("Next steps:" if db_url is None else "Next steps (with the same --db-url):", style="bold")
    lines = [
        (command_line("show", query_id=query_id), "show this report again"),
        (command_line("explain", query_id=query_id), "explain the cache misses and their cost"),
        (command_line("runs"), "list the newest runs"),
        (command_line("top"), "list the runs with the highest savings"),
        (command_line("models"), "compare the models"),
    ]
    width = max(len(line) for line, _ in lines)
    for line, description in lines:
        print_line(console, f"  {line}", description, indent=width + 4)

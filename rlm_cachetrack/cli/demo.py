"""``demo``: a recursive agent's conversation through the real OpenAI SDK, recorded, and the report on it."""

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
from rich.text import Text

from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import CacheTrackError, ConfigError

from .arguments import AsJson, DbUrl, Yes, command_line, confirm, open_client
from .demo_agent import ITERATIONS, MISTAKE_IN, answer_question
from .output import duration, number, print_json, print_line, stderr, stdout
from .run_view import print_report

if TYPE_CHECKING:
    from openai import OpenAI

    from rlm_cachetrack.client import TimescaleDBClient

__all__ = ["demo"]

_SIMULATED = ("gpt-5", "gpt-5-mini")
_LIVE = ("gpt-5-mini", "gpt-5-nano")


class DemoError(CacheTrackError):
    """The API did not let the demo through."""


def demo(
    live: Annotated[
        bool, typer.Option("--live", help="Use the real API and OPENAI_API_KEY; costs some cents.", show_default=False)
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The agent's model. Default: gpt-5, with --live gpt-5-mini."),
    ] = None,
    sub_model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The one it recurses to. Default: gpt-5-mini, with --live gpt-5-nano."),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """See it work: an agent's conversation, recorded, and what the cache saved. Needs no account."""
    from rlm_cachetrack.analytics import run_report

    if disabled():
        raise ConfigError("RLM_CACHETRACK_DISABLED is set, so the demo would record nothing: unset it")
    default, default_sub = _LIVE if live else _SIMULATED
    agents = (model or default, sub_model or default_sub)
    if live:
        _ask(agents, yes)
    # With --json, stdout is the report and nothing else.
    told = stderr() if as_json else stdout()
    query_id = f"demo-{datetime.now(UTC):%m%d-%H%M%S}"
    with _database(db_url, told) as client:
        run_id = _live(client, query_id, agents, told) if live else _simulated(client, query_id, agents, told)
        report = run_report(client.reader(), query_id, run_id)
    if report is None:
        raise ConfigError(f"the demo's run was deleted while it ran: query {query_id!r}")
    if as_json:
        print_json({**report, "other_runs": 0})
        return
    told.print()
    print_report(told, report)
    told.print()
    told.print(
        f"In iteration {MISTAKE_IN} the agent put the time of day at the head of its prompt. The prefix was another "
        "then, and only the prompt of its sub-agent could come from the cache.\n",
        style="dim",
    )
    _look_further(told, query_id, db_url)


def _ask(agents: tuple[str, str], yes: bool) -> None:
    if not os.environ.get("OPENAI_API_KEY"):
        raise ConfigError("--live needs an API key in OPENAI_API_KEY; without --live the demo needs no account")
    if yes:
        return
    stderr().print(
        f"--live sends some 13 requests to {agents[0]} and {agents[1]}: some 45,000 input tokens and at most 20,000 "
        "output tokens. With the default models that is a few US cents, charged to your account."
    )
    confirm("Go on?")


@contextlib.contextmanager
def _database(db_url: str | None, told: Console) -> Iterator[TimescaleDBClient]:
    from rlm_cachetrack.pipeline import diagnostics

    begun = time.perf_counter()
    with told.status("Connecting to the database …"):
        client = open_client(db_url)
    with client:
        facts = diagnostics.describe_store(client.runtime)
        took = duration((time.perf_counter() - begun) * 1000)
        _tell(told, "database", f"{facts['engine']}, ready after {took}")
        _tell(told, "", facts["address"])
        yield client


def _simulated(client: TimescaleDBClient, query_id: str, agents: tuple[str, str], told: Console) -> datetime:
    from openai import DefaultHttpxClient, OpenAI

    from rlm_cachetrack.simulator import SimulatedEndpoint

    with SimulatedEndpoint() as endpoint:
        _tell(told, "endpoint", f"simulated at {endpoint.base_url}: caches by OpenAI's rules, no model behind it")
        # A proxy named in the environment would be asked for loopback too.
        with (
            DefaultHttpxClient(trust_env=False) as http,
            OpenAI(base_url=endpoint.base_url, api_key="simulated", http_client=http) as sdk,
        ):
            return _converse(sdk, client, query_id, agents, told)


def _live(client: TimescaleDBClient, query_id: str, agents: tuple[str, str], told: Console) -> datetime:
    from openai import OpenAI, OpenAIError

    with OpenAI() as sdk:
        _tell(told, "endpoint", f"{sdk.base_url}")
        try:
            return _converse(sdk, client, query_id, agents, told)
        except OpenAIError as exc:
            # Its message may quote the request, or parts of the key.
            status, code = getattr(exc, "status_code", None), getattr(exc, "code", None)
            details = ", ".join([f"HTTP {status}"] * bool(status) + [str(code)] * bool(code))
            raise DemoError(
                f"a call to the API failed: {type(exc).__name__}{f' ({details})' if details else ''}; "
                f"it is recorded, too: `{command_line('show', query_id=query_id)}`"
            ) from exc


def _converse(
    sdk: OpenAI, client: TimescaleDBClient, query_id: str, agents: tuple[str, str], told: Console
) -> datetime:
    from rlm_cachetrack import instrument, query_run, uninstrument

    _tell(
        told,
        "agent",
        f"{agents[0]} recursing to {agents[1]}, {ITERATIONS} iterations, through the OpenAI SDK {version('openai')}",
    )
    begun = time.perf_counter()
    instrument(sdk, store=client)
    try:
        with told.status("The agent is at work …"), query_run(query_id, metadata={"demo": True}) as run:
            answer_question(sdk, run, *agents)
        took = duration((time.perf_counter() - begun) * 1000)
        calls = client.get_llm_interactions(query_id, run.run_id)
        _tell(told, "recorded", f"{number(len(calls))} calls in {took}; the report is read from the database:")
    finally:
        uninstrument(sdk)
    return run.run_id


def _tell(told: Console, name: str, what: str) -> None:
    print_line(told, name, what, indent=10)


def _look_further(told: Console, query_id: str, db_url: str | None) -> None:
    told.print("Look further:" if db_url is None else "Look further (with the same --db-url):", style="bold")
    lines = [
        (command_line("show", query_id=query_id), "this report again"),
        (command_line("explain", query_id=query_id), "why the cache missed, and what that cost"),
        (command_line("runs"), "the newest runs"),
        (command_line("top"), "where the cache saved most"),
        (command_line("models"), "how well it worked, by model"),
    ]
    width = max(len(line) for line, _ in lines)
    for line, what in lines:
        told.print(Text.assemble("  ", (line.ljust(width), "cyan"), "  ", what), soft_wrap=True)

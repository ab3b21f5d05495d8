"""Cache miss reasons: verdicts for a provider with scripted faults, and for calls through the SDK to PostgreSQL."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
import yaml
from openai import OpenAI
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.analytics.explain.cache_rules import cache_rule, cache_rules
from rlm_cachetrack.analytics.explain.report import explain_rows
from rlm_cachetrack.capture import call as _calls
from rlm_cachetrack.cli import app
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.scripted_faults import T0, Script, Shape

SHAPES = {
    "four characters a token": Shape(),
    "overheads": Shape(characters_per_token=3.3, message_overhead=4, answer_overhead=3),
    "breakpoints": Shape(
        message_overhead=4, answer_overhead=3, step=1, ttl_s=1800, model="gpt-5.6-sol", breakpoints=True
    ),
    "responses": Shape(characters_per_token=5, message_overhead=6, answer_overhead=2, api="responses"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_19_of_20_scripted_faults_get_the_right_verdict_and_cost(shape: Shape) -> None:
    calls = Script(shape, seed=2).run(1000)
    found = explain_rows("q", T0, [each.row for each in calls])
    explained = {each["interaction_id"]: each for each in found["interactions"]}
    sure = [each for each in calls if each.verdict != "any"]  # "any": a consequence of an earlier fault
    right = sum(explained[each.row["interaction_id"]]["verdict"] == each.verdict for each in sure)
    assert right >= 0.95 * len(sure)
    lost = sum(each.lost for each in sure)
    assert sum(explained[each.row["interaction_id"]]["tokens_lost"] for each in sure) == pytest.approx(lost, rel=0.05)
    assert found["ceiling_tokens"] == pytest.approx(found["cached_tokens"], rel=0.002)


def test_a_message_dropped_from_a_large_prompt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is small compared with the prompt; the error of the estimate must be relative to the loss."""
    monkeypatch.setattr(Script, "FAULTS", ("dropped",))
    calls = Script(Shape(message_overhead=4, system_tokens=(12_000, 16_000)), seed=7).run(120)
    found = explain_rows("q", T0, [each.row for each in calls])
    explained = {each["interaction_id"]: each for each in found["interactions"]}
    dropped = [each for each in calls if each.verdict == "prefix_changed" and each.lost > 256]
    assert len(dropped) > 10
    right = [explained[each.row["interaction_id"]]["verdict"] == each.verdict for each in dropped]
    assert sum(right) >= 0.8 * len(right)  # the other calls repeat the drop of an earlier call
    assert all(
        explained[each.row["interaction_id"]]["verdict"] != "prefix_changed" for each in calls if each.verdict == "hit"
    )


def test_without_faults_the_ceiling_is_reached() -> None:
    calls = Script(Shape(), seed=5).run(300, faults=0.0)
    found = explain_rows("q", T0, [each.row for each in calls])
    assert found["ceiling_tokens"] == found["cached_tokens"]
    assert found["achievable_hit_rate"] == found["cache_hit_rate"]
    assert found["tokens_lost"] == 0
    assert found["advice"] == []
    assert {each["verdict"] for each in found["verdicts"]} == {"first_call", "hit"}


def test_a_shared_beginning_without_a_breakpoint_is_advised_to_have_one() -> None:
    script = Script(Shape(step=1, ttl_s=1800, model="gpt-5.6-sol", breakpoints=True), seed=3)
    system = script.text(2000)
    for _ in range(
        5
    ):  # the same system prompt with different questions: each prompt is written up to its question and never read
        question = script._talk()["messages"]
        script._call({"tools": [], "system": system, "messages": question, "calls": 0}, None)
        script.now += 5
    found = explain_rows("q", T0, [each.row for each in script.calls])
    assert [each["verdict"] for each in found["interactions"]] == ["first_call"] + ["breakpoint_missing"] * 4
    advice = found["advice"][0]
    assert (advice["rule"], advice["segment"], advice["calls"]) == ("mark_shared_beginning", "system prompt", 4)
    assert advice["tokens_at_stake"] == pytest.approx(4 * 2000, rel=0.02)
    assert advice["usd_at_stake"] == pytest.approx(4 * 2000 * 1.5e-6, rel=0.02)


# -- through the SDK --------------------------------------------------------------------------------------------------


class Clock:
    """A clock for the endpoint's cache and the records, so that tests do not wait for pauses."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_calls, "time_ns", lambda: int(clock() * 1e9))
    return clock


@pytest.fixture
def served(clock: Clock) -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(latency=False, clock=clock) as endpoint:
        yield endpoint


LONG = "All that the model must know of the matter, explained at length. " * 100  # 6,000 characters: 1,500 tokens


def agent(client: Any, system: str = LONG, model: str = "gpt-4.1", **more: Any) -> list[dict[str, str]]:
    """Make three turns of a conversation."""
    messages = [{"role": "system", "content": system}]
    for turn in range(3):
        messages.append({"role": "user", "content": f"question {turn}"})
        reply = client.chat.completions.create(model=model, messages=messages, **more)
        messages.append({"role": "assistant", "content": reply.choices[0].message.content or ""})
    messages.append({"role": "user", "content": "and now?"})
    return messages


def verdicts(url: str, query: str = "q") -> list[Any]:
    with TimescaleDBClient(url) as db:
        found = db.explain_cache(query)
    assert found is not None
    return found["interactions"]


def test_each_fault_is_found_in_calls_through_the_sdk(served: SimulatedEndpoint, clock: Clock, db_url: str) -> None:
    tools: list[Any] = [
        {"type": "function", "function": {"name": name, "description": "what it does " * 20}}
        for name in ("f", "g", "h")
    ]
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("q"):
            messages = agent(client, tools=tools, prompt_cache_retention="in_memory")
            ask: Any = partial(client.chat.completions.create, prompt_cache_retention="in_memory")
            ask(model="gpt-4.1", messages=messages, tools=tools[::-1])
            edited = [{"role": "system", "content": "12:00 " + LONG}, *messages[1:]]
            ask(model="gpt-4.1", messages=edited, tools=tools)
            ask(model="gpt-4.1-mini", messages=messages, tools=tools)
            ask(model="gpt-4.1", messages=messages, tools=tools, prompt_cache_key="another")
            clock.ahead += 600
            ask(model="gpt-4.1", messages=messages, tools=tools)
            ask(model="gpt-4.1", messages=[{"role": "user", "content": "short"}])
    found = verdicts(db_url)
    assert [each["verdict"] for each in found] == [
        "first_call",
        "hit",
        "hit",
        "prefix_changed",
        "prefix_changed",
        "model_changed",
        "key_changed",
        "expired",
        "below_minimum",
    ]
    assert (found[3]["segment"], found[3]["change"]) == ("tools", "reordered")
    assert (found[4]["segment"], found[4]["change"]) == ("system prompt", "edited")
    assert found[7]["gap_s"] == pytest.approx(600, abs=30)
    for each in found[3:8]:
        assert each["tokens_lost"] > 1024
        assert each["usd_lost"] == pytest.approx(each["tokens_lost"] * (2 - 0.5) / 1e6, rel=0.9)
        assert 0 < each["confidence"] <= 1


def test_the_command_explains_and_advises(served: SimulatedEndpoint, clock: Clock, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("q") as run:
            for number in range(5):
                agent(client, f"It is {clock():.6f}. {LONG}" if number else LONG)
            explained = run.explain()
    assert explained is not None
    advice = explained["advice"][0]
    assert (advice["rule"], advice["segment"]) == ("move_changing_part", "system prompt")
    arguments = ["explain", "q", "--db-url", db_url]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    assert shown.exit_code == 0, shown.output
    assert " achievable (+" in shown.output
    assert "The system prompt changes from call to call" in shown.output
    (hint,) = (line for line in shown.output.splitlines() if line.startswith("The reason of each call: "))
    hinted = shlex.split(hint.rstrip("`").partition("rlm-cachetrack ")[2])
    calls = CliRunner().invoke(app, [*hinted, "--db-url", db_url], env={"COLUMNS": "80"})
    assert calls.exit_code == 0, calls.output
    assert max(len(line) for line in calls.output.splitlines() if "oken counts of parts" not in line) <= 80
    as_json = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert as_json["interactions"] == json.loads(json.dumps(explained["interactions"], default=lambda v: v.isoformat()))
    assert CliRunner().invoke(app, ["explain", "nobody", "--db-url", db_url]).exit_code == 1


def test_the_hint_of_explain_names_the_run_that_was_explained(served: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for changed in (True, False):  # two runs of a query whose id needs quotes; only the first has avoidable misses
            with query_run("code review") as run:
                for number in range(3):
                    agent(client, f"It is {number}. {LONG}" if changed else LONG)
            if changed:
                first = run.run_id
    wanted = f"code review@{first:%Y-%m-%dT%H:%M:%S.%fZ}"
    for named in ([wanted], ["code review", "--run", first.isoformat()], ["--query", "code review", "--until", "NEXT"]):
        named = [(first + timedelta(milliseconds=1)).isoformat() if each == "NEXT" else each for each in named]
        shown = CliRunner().invoke(app, ["explain", *named, "--db-url", db_url], env={"COLUMNS": "60"})
        assert shown.exit_code == 0, shown.output
        (hint,) = (line for line in shown.output.splitlines() if "rlm-cachetrack explain --calls" in line)
        assert shlex.split(hint.partition("`")[2].rstrip("`"))[-1] == wanted
        calls = CliRunner().invoke(app, ["explain", "--calls", wanted, "--json", "--db-url", db_url])
        assert json.loads(calls.output)["run_id"] == first.isoformat()


def test_the_ceiling_does_not_contradict_the_achievable_hit_rate(served: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for query, changed in (("changed", True), ("constant", False)):
            with query_run(query):
                for number in range(4):
                    agent(client, f"It is {query}, {number}. {LONG}" if changed and number > 1 else LONG)
    for query, words in (
        (
            "changed",
            "readable as the prompts were sent, at most {ceiling:.1%} could be read; "
            "without the avoidable misses below, {achievable:.1%}",
        ),
        ("constant", "readable as the prompts were sent, at most {ceiling:.1%} could be read Reason"),
    ):
        shown = CliRunner().invoke(app, ["explain", query, "--calls", "--db-url", db_url], env={"COLUMNS": "100"})
        found = json.loads(CliRunner().invoke(app, ["explain", query, "--json", "--db-url", db_url]).output)
        ceiling, achievable = found["ceiling_hit_rate"], found["achievable_hit_rate"]
        assert (achievable > ceiling) == (query == "changed")
        assert words.format(ceiling=ceiling, achievable=achievable) in " ".join(shown.output.split())


def test_cache_entries_of_another_run_count(served: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for query in ("before", "q"):
            with query_run(query):
                agent(client)
    assert verdicts(db_url, "before")[0]["verdict"] == "first_call"
    first = verdicts(db_url)[0]
    assert first["verdict"] == "hit"
    assert first["ceiling_tokens"] == first["cached_tokens"]


@pytest.mark.parametrize(
    ("query", "hours", "expected"),
    [
        ("q", 20, "provider_miss"),  # gpt-4.1 keeps entries for up to a day
        ("another", 20, "provider_miss"),
        ("q", 26, "expired"),
        ("q", 50, "first_call"),
    ],
)
def test_cache_entries_of_yesterday_count(
    served: SimulatedEndpoint, clock: Clock, db_url: str, query: str, hours: int, expected: str
) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run(query):
            agent(client)
        clock.ahead += hours * 3600
        with query_run("q"):
            agent(client)
    assert verdicts(db_url)[0]["verdict"] == expected


def test_other_runs_between_do_not_hide_the_run_of_yesterday(
    served: SimulatedEndpoint, clock: Clock, db_url: str
) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("q"):
            agent(client)
        for number in range(25):
            clock.ahead += 1800
            with query_run(f"other {number}"):
                agent(client, system=f"{number} {LONG}")
        with query_run("q"):
            agent(client)
    assert verdicts(db_url)[0]["verdict"] == "provider_miss"


def test_what_decides_the_cache_of_claude_is_recorded(served: SimulatedEndpoint, db_url: str) -> None:
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("q") as run:
            agent(
                client,
                model="claude-opus-4-6",
                tools=tools,
                tool_choice={"type": "function", "function": {"name": "look"}},
                extra_body={"thinking": {"type": "enabled", "budget_tokens": 4096}, "speed": "fast"},
            )
    assert flush(10)
    with TimescaleDBClient(db_url) as db:
        options = db.get_llm_interactions("q", run.run_id)[0]["request_options"]
    assert (options["thinking"], options["speed"]) == ("enabled 4096", "fast")
    assert options["tool_choice"].startswith("tool ")
    assert "look" not in options["tool_choice"]


def test_calls_without_fingerprints_are_unknown(served: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url, fingerprints=False)
        with query_run("q"):
            agent(client)
    assert [each["verdict"] for each in verdicts(db_url)] == ["unknown"] * 3


class ScriptedResponses(BaseHTTPRequestHandler):
    """Answers each Responses call with the next scripted fields."""

    script: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        given = self.script.pop(0)
        usage = {
            "input_tokens": 3000,
            "input_tokens_details": {"cached_tokens": given.pop("cached"), "cache_write_tokens": 0},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 3009,
        }
        response = {
            **{"id": f"resp_{len(self.script)}", "object": "response", "created_at": 1, "status": "completed"},
            **{"model": "gpt-5.6-sol", "output": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
            **{"usage": usage, **given},
        }
        body = json.dumps(response).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_what_a_response_states_reaches_the_explanation(db_url: str) -> None:
    diagnosis = {"type": "cache_miss", "reason": "reasoning_effort_changed", "cache_missed_tokens": 2800}
    ScriptedResponses.script = [
        {"cached": 0, "prompt_cache_options": {"mode": "implicit", "ttl": "12h"}},
        {"cached": 2990},
        {"cached": 0, "prompt_cache_diagnostics": diagnosis},
        {"cached": 0},
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedResponses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="k") as client:
            instrument(client, store=db_url)
            with query_run("q"):
                ask: Any = partial(client.responses.create, model="gpt-5.6-sol", input=LONG * 2)
                ask()
                ask()
                ask()
                ask(reasoning={"effort": "high"})
    finally:
        server.shutdown()
        server.server_close()
    found = verdicts(db_url)
    assert [each["verdict"] for each in found] == ["first_call", "hit", "settings_changed", "settings_changed"]
    assert (found[2]["provider_reason"], found[2]["own_verdict"]) == ("reasoning_effort_changed", "provider_miss")
    assert (found[2]["setting"], found[2]["confidence"]) == ("reasoning_effort", 1.0)
    assert found[3]["words"] == "reasoning effort changed from the default to high"
    with psycopg.connect(db_url) as connection:
        rows = connection.execute("SELECT request_options, cache_diagnostics FROM llm_interactions ORDER BY time")
        assert rows.fetchall() == [
            ({"cache_mode": "implicit", "cache_ttl": "12h"}, None),
            (None, None),
            (None, diagnosis),
            ({"reasoning_effort": "high"}, None),
        ]
    shown = CliRunner().invoke(app, ["explain", "q", "--calls", "--db-url", db_url], env={"COLUMNS": "260"})
    assert "reported by the provider: reasoning_effort_changed; without it: not read by the provider" in shown.output
    compared = CliRunner().invoke(app, ["explain", "q", "--agreement", "--db-url", db_url], env={"COLUMNS": "220"})
    assert "0.0%: 0 of 1 call with a diagnosis of the provider" in compared.output
    assert compared.exit_code == 0


def test_the_agreement_with_the_provider_is_counted() -> None:
    rows = [dict(each.row) for each in Script(Shape(api="responses"), seed=5).run(120)]
    first = explain_rows("q", T0, rows)
    assert first["agreement_rate"] is None
    found = {each["interaction_id"]: each for each in first["interactions"]}
    hit = next(row for row in rows if found[row["interaction_id"]]["verdict"] == "hit")
    changed = [row for row in rows if found[row["interaction_id"]]["verdict"] == "prefix_changed"]
    text = next(row for row in changed if found[row["interaction_id"]]["segment"] != "tools")
    tools = next(row for row in changed if found[row["interaction_id"]]["segment"] == "tools")
    hit["cache_diagnostics"] = {"type": "cache_hit"}
    text["cache_diagnostics"] = {"type": "cache_miss", "reason": "input_changed", "cache_missed_tokens": 9}
    tools["cache_diagnostics"] = {"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": 9}}
    rows[-1]["cache_diagnostics"] = {"type": "unavailable"}
    explained = explain_rows("q", T0, rows)
    pairs = {(each["provider_reason"], each["own_verdict"]): each["agrees"] for each in explained["agreement"]}
    assert pairs == {
        ("cache_hit", "hit"): True,
        ("input_changed", "prefix_changed"): True,
        ("system_changed", "prefix_changed"): False,
    }
    assert explained["agreement_rate"] == pytest.approx(2 / 3)
    shown = next(each for each in explained["interactions"] if each["interaction_id"] == tools["interaction_id"])
    assert (shown["provider_reason"], shown["confidence"]) == ("system_changed", 1.0)


# -- the rules --------------------------------------------------------------------------------------------------------


def test_every_cache_rule_has_a_source_and_the_last_one_fits_any_call() -> None:
    assert all(rule.source.startswith("https://") and rule.read for rule in cache_rules())
    assert cache_rule("openai", "gpt-5.6-sol").matching == "breakpoints"
    assert cache_rule("openai", "gpt-5-2025-08-07").step_tokens == 128
    assert cache_rule("openai", "gpt-4-0613").matching == "none"
    assert not cache_rule("nobody", "anything").published
    assert cache_rule("unknown", "gemini-2.5-pro").minimum_tokens == 2048
    assert cache_rule("openrouter", "anthropic/claude-opus-4.6").minimum_tokens == 4096
    assert cache_rule("unknown", "us.anthropic.claude-opus-5-20260901-v1:0").minimum_tokens == 512
    assert cache_rule("anthropic", "claude-haiku-5-5").minimum_tokens == 512
    assert cache_rule("openrouter", "anthropic/claude-sonnet-5.5").minimum_tokens == 512
    assert cache_rule("anthropic", "claude-sonnet-5").minimum_tokens == 1024
    assert cache_rule("anthropic", "claude-opus-4-7").minimum_tokens == 2048
    assert cache_rule("bedrock", "anthropic.claude-opus-4-7-v1:0").minimum_tokens == 4096
    assert cache_rule("anthropic", "claude-mythos-preview").minimum_tokens == 2048
    assert cache_rule("deepseek", "deepseek-chat").matching == "units"


def test_rules_of_the_user_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rules.yaml"
    rule = {
        "name": "ours",
        "models": "gpt-5",
        "matching": "prefix",
        "source": "https://x.test",
        "read": date(2026, 1, 1),
    }
    lifetime = {"guaranteed_s": 60.0, "expected_s": 60.0, "longest_s": 60.0}
    file.write_text(yaml.safe_dump({"version": 2, "rules": [{**rule, "lifetimes": {"default": lifetime}}]}))
    monkeypatch.setenv("RLM_CACHETRACK_CACHE_RULES", str(file))
    assert cache_rule("openai", "gpt-5").name == "ours"
    assert cache_rule("openai", "gpt-4.1").name != "ours"
    shown = CliRunner().invoke(app, ["rules"])
    assert shown.output.startswith("ours\n")
    assert str(file) in "".join(shown.output.split())
    file.with_name("bad.yaml").write_text(yaml.safe_dump({"version": 2, "rules": [rule]}))
    monkeypatch.setenv("RLM_CACHETRACK_CACHE_RULES", str(file.with_name("bad.yaml")))
    wrong = CliRunner().invoke(app, ["rules"])
    assert wrong.exit_code == 2
    assert "lifetimes has no default" in wrong.output


def test_the_command_shows_every_rule_with_its_source() -> None:
    shown = CliRunner().invoke(app, ["rules"], env={"COLUMNS": "80"}).output
    assert all(rule.name in shown and rule.source in shown for rule in cache_rules())
    assert "kept for 30 min to 24 h (12h: 12 h to 24 h)" in " ".join(shown.split())  # prose is wrapped at words
    as_json = json.loads(CliRunner().invoke(app, ["rules", "--json"]).output)
    assert [rule["name"] for rule in as_json] == [rule.name for rule in cache_rules()]


def test_a_model_with_breakpoints_is_read_up_to_a_breakpoint(served: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=served.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("q"):
            messages: list[Any] = [{"role": "system", "content": LONG}]
            for turn in range(4):
                messages.append({"role": "user", "content": f"question {turn}"})
                reply = client.chat.completions.create(model="gpt-5.6-sol", messages=messages)
                messages.append({"role": "assistant", "content": reply.choices[0].message.content or ""})
    found = verdicts(db_url)
    assert [each["verdict"] for each in found] == ["first_call", "hit", "hit", "hit"]
    assert all(abs(each["ceiling_tokens"] - each["cached_tokens"]) <= 4 for each in found)

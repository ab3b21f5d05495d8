"""Alert rules fire once, recover once, and notify once although several watchers run."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.alerts import (
    AlertChange,
    Reading,
    alert_states,
    evaluate,
    read_alerts,
    state_name,
    update_states,
)
from rlm_cachetrack.analytics.explain import BustSearch, cache_busts
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError
from tests.support.web import store_missed

NOW = datetime.now(UTC)


@pytest.fixture
def db(reused_db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(reused_db_url) as client:
        yield client


def record(db: TimescaleDBClient, minutes: float, cost: float | None = 1.0, **more: Any) -> None:
    started = NOW - timedelta(minutes=minutes)
    given: dict[str, Any] = {
        "prompt_tokens": 20_000,
        "cached_tokens": 10_000,
        "provider": "openai",
        "start_time": started,
    }
    db.record_llm_interaction(LLMInteractionRecord("q", NOW, "m", total_cost=cost, **{**given, **more}))


def rules(folder: Path, *lines: str, head: str = "") -> Path:
    path = folder / "rules.yaml"
    path.write_text("\n".join(["version: 1", head, "rules:", *(f"  - {line}" for line in lines), ""]))
    return path


def read(db: TimescaleDBClient, folder: Path, line: str, now: datetime = NOW) -> Any:
    (rule,) = read_alerts(rules(folder, line)).rules
    assert db.flush()
    return evaluate(db.reader(), rule, now, lambda: 7)


def test_the_value_of_each_kind_of_rule(db: TimescaleDBClient, tmp_path: Path) -> None:
    for minutes in (10, 20):
        record(db, minutes)
    record(db, 90, tags={"user": "u-1", "app": "shop"})
    record(db, 15, cost=None, cached_tokens=0)
    db.record_llm_interaction(LLMInteractionRecord("q", NOW, "m", cached_tokens=None, success=False, start_time=NOW))
    for week in (1, 2):
        record(db, week * 7 * 24 * 60 + 30, cached_tokens=18_000)
    values = {
        "{name: a, kind: spend, window: 1h, above: 5}": 2.0,
        "{name: a, kind: spend, window: 2h, above: 5}": 3.0,
        "{name: a, kind: spend, window: 2h, above: 5, model: other}": 0.0,
        "{name: a, kind: spend, window: 2h, above: 5, tags: {user: u-1}}": 1.0,
        "{name: a, kind: unpriced, window: 1h}": 1.0,
        "{name: a, kind: failures, window: 1h, above_percentage: 10, min_calls: 4}": 25.0,
        "{name: a, kind: failures, window: 1h, above_percentage: 10, min_calls: 5}": None,
        "{name: a, kind: silence, window: 30m}": 0.0,
        "{name: a, kind: silence, window: 30m, model: other}": 1.0,
        "{name: a, kind: journal, above: 5}": 7.0,
        # 20,000 of 60,000 tokens now, 90 % in the same hour of the two weeks before
        "{name: a, kind: hit_rate, window: 1h, drop: 20}": pytest.approx(100 * (0.9 - 1 / 3)),
        "{name: a, kind: hit_rate, window: 1h, drop: 20, min_prompt_tokens: 100000}": None,
    }
    assert {line: read(db, tmp_path, line).value for line in values} == values


def test_a_hit_rate_is_compared_with_whole_hours(db: TimescaleDBClient, tmp_path: Path) -> None:
    """Whole hours are compared: a call later in the same hour counts, one in the next hour does not."""
    now = (NOW - timedelta(hours=1)).replace(minute=30)
    line = "{name: a, kind: hit_rate, window: 15m, drop: 20}"
    record(db, 0, cached_tokens=10_000, start_time=now - timedelta(minutes=5))
    record(db, 0, cached_tokens=0, start_time=now + timedelta(minutes=35) - timedelta(days=7))
    assert read(db, tmp_path, line, now).value is None
    record(db, 0, cached_tokens=18_000, start_time=now + timedelta(minutes=15) - timedelta(days=7))
    assert read(db, tmp_path, line, now).value == pytest.approx(100 * (0.9 - 0.5))


def test_a_budget_rule_reads_the_budget(db: TimescaleDBClient, tmp_path: Path) -> None:
    record(db, 0, cost=8.0)
    db.set_budget(10.0, "day")
    found = read(db, tmp_path, "{name: a, kind: budget, above_percentage: 75}", NOW)
    assert found.value == pytest.approx(80.0)


def test_a_rule_fires_once_and_recovers_once_with_hysteresis(db: TimescaleDBClient, tmp_path: Path) -> None:
    (rule,) = read_alerts(rules(tmp_path, "{name: costly, kind: spend, window: 1h, above: 10}")).rules
    store, sent = db.reader(), list[AlertChange]()

    def reading(value: float | None) -> Any:
        return {"costly": evaluate(store, rule, NOW, int)._replace(value=value)}

    # Recovers at 90 % of the limit; an unknown value changes nothing.
    for value in (5.0, 11.0, 12.0, 9.5, None, 10.5, 8.9, 9.5, 11.0):
        update_states(store, reading(value), sent.append)
    assert [(change["firing"], change["value"]) for change in sent] == [(True, 11.0), (False, 8.9), (True, 11.0)]


def test_rules_whose_values_are_counts_and_amounts_are_stored_together(db: TimescaleDBClient, tmp_path: Path) -> None:
    """Without any call, the sum of the costs is the integer 0."""
    kinds = ("spend, above: 10", "failures, above_percentage: 5", "silence, window: 1h", "unpriced")
    file = read_alerts(rules(tmp_path, *(f"{{name: r{number}, kind: {kind}}}" for number, kind in enumerate(kinds))))
    store = db.reader()
    readings = {rule.name: evaluate(store, rule, NOW, int) for rule in file.rules}
    readings["half"] = Reading(0.5, 1.0, 0.9, "")
    for _ in range(2):
        states = update_states(store, readings, lambda change: None)
    assert {state["name"]: state["value"] for state in states if state["name"] in ("r0", "half")} == {
        "r0": 0,
        "half": 0.5,
    }


def test_a_rule_that_returns_continues_its_state(db: TimescaleDBClient) -> None:
    """After a pause without a watcher, a rule that still fires is not sent again, and its recovery is sent."""
    store, sent = db.reader(), list[AlertChange]()
    for value in (11.0, 12.0, 9.5, 8.0):
        update_states(store, {"costly": Reading(value, 10.0, 9.0, "")}, sent.append, timedelta(0))
    assert [change["firing"] for change in sent] == [True, False]


def test_watchers_that_run_at_once_notify_once(db: TimescaleDBClient, tmp_path: Path) -> None:
    (rule,) = read_alerts(rules(tmp_path, "{name: costly, kind: spend, above: 10}")).rules
    store, sent = db.reader(), list[AlertChange]()
    readings = {"costly": evaluate(store, rule, NOW, int)._replace(value=11.0)}
    watchers = [threading.Thread(target=update_states, args=(store, readings, sent.append)) for _ in range(6)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    assert len(sent) == 1


def test_a_failed_notification_is_tried_again(db: TimescaleDBClient, tmp_path: Path) -> None:
    (rule,) = read_alerts(rules(tmp_path, "{name: costly, kind: spend, above: 10}")).rules
    store, sent = db.reader(), list[AlertChange]()
    readings = {"costly": evaluate(store, rule, NOW, int)._replace(value=11.0)}

    def refuse(change: AlertChange) -> None:
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        update_states(store, readings, refuse)
    update_states(store, readings, sent.append)
    assert [change["name"] for change in sent] == ["costly"]


def test_a_notification_that_fails_holds_back_no_other(db: TimescaleDBClient) -> None:
    sent: list[str] = []

    def notify(change: AlertChange) -> None:
        if change["name"] == "a":
            raise OSError("no network")
        sent.append(change["name"])

    readings = {name: Reading(1.0, 0.0, 0.0, "") for name in ("a", "b", "c")}
    for _ in range(2):
        with pytest.raises(OSError, match="no network"):
            update_states(db.reader(), readings, notify)
    assert sorted(sent) == ["b", "c"]


def test_an_interrupted_notification_is_sent_by_the_next_watcher(db: TimescaleDBClient) -> None:
    def interrupt(change: AlertChange) -> None:
        raise KeyboardInterrupt

    sent: list[AlertChange] = []
    with pytest.raises(KeyboardInterrupt):
        update_states(db.reader(), {"a": Reading(1.0, 0.0, 0.0, "")}, interrupt)
    update_states(db.reader(), {"a": Reading(1.0, 0.0, 0.0, "")}, sent.append)
    assert [change["name"] for change in sent] == ["a"]


def test_watchers_on_two_machines_do_not_share_the_state_of_a_journal(
    db: TimescaleDBClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog, spend = read_alerts(
        rules(tmp_path, "{name: backlog, kind: journal, above: 10}", "{name: costly, kind: spend, above: 10}")
    ).rules
    assert state_name(spend) == "costly"
    sent: list[AlertChange] = []
    for _ in range(2):
        for machine, waiting in (("full", 20), ("empty", 0)):
            monkeypatch.setattr("socket.gethostname", lambda machine=machine: machine)
            reading = evaluate(db.reader(), backlog, NOW, lambda waiting=waiting: waiting)
            update_states(db.reader(), {state_name(backlog): reading}, sent.append)
    assert [(change["name"], change["firing"]) for change in sent] == [("backlog on full", True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nrules: []", "rules: List should have at least 1 item"),
        ("version: 2\nrules: [{name: a, kind: spend, above: 1}]", "version: Input should be 1"),
        ("version: 1\nrules: [{name: a, kind: spent, above: 1}]", "rules.0: Input tag 'spent'"),
        (
            "version: 1\nrules: [{name: a, kind: spend, above: -1}]",
            "spend.above: Input should be greater than 0",
        ),
        ("version: 1\nrules: [{name: a, kind: spend, above: 1, window: 1y}]", "expected a span of time such as 30m"),
        ("version: 1\nrules: [{name: a, kind: spend, above: 1, modell: x}]", "modell: Extra inputs are not permitted"),
        (
            "version: 1\nrules: [{name: a, kind: spend, above: 1}, {name: a, kind: unpriced}]",
            "two rules have the name 'a'",
        ),
        ("version: [", "is not YAML"),
    ],
)
def test_a_mistake_in_the_rules_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("[", "\\[")):
        read_alerts(path)


def cli(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["watch", *arguments, "--db-url", url], env={"COLUMNS": "120"})


def test_watch_once_shows_the_present_values(db: TimescaleDBClient, reused_db_url: str, tmp_path: Path) -> None:
    """A later value is shown although the state does not change, and a rule without a value is named."""
    path = rules(tmp_path, "{name: costly, kind: spend, above: 10}", "{name: rate, kind: hit_rate, drop: 5}")
    for spent in ("$20.00", "$40.00"):
        record(db, 1, cost=20.0)
        assert db.flush()
        found = cli(reused_db_url, str(path), "--once")
        assert f"FIRING  costly: {spent} in 1d, limit $10.00" in found.stdout
        assert "unknown rate: none of the past four weeks has enough calls in the same hours" in found.stderr
    (state,) = alert_states(db.reader())
    assert (state["value"], state["reason"]) == (40.0, "$40.00 in 1d, limit $10.00")


def test_watch_once_runs_the_command_and_fails_while_a_rule_fires(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path
) -> None:
    record(db, 1, cost=20.0)
    assert db.flush()
    log = tmp_path / "sent.jsonl"
    program = f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read() + chr(10))"
    path = rules(
        tmp_path,
        "{name: costly, kind: spend, window: 1h, above: 10}",
        "{name: quiet, kind: silence, window: 1h}",
        head=f"command: {json.dumps([sys.executable, '-c', program])}",
    )
    for _ in range(2):
        found = cli(reused_db_url, str(path), "--once")
        assert found.exit_code == 1, found.output
        assert "FIRING  costly: $20.00 in 1h, limit $10.00" in found.stdout, found.output
    (sent,) = map(json.loads, log.read_text().splitlines())
    assert (sent["name"], sent["firing"], sent["value"]) == ("costly", True, 20.0)


def test_a_rule_about_a_budget_that_does_not_exist_stops_no_other(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path
) -> None:
    record(db, 1, cost=1.0)
    assert db.flush()
    path = rules(tmp_path, "{name: month, kind: budget, budget: nope}", "{name: costly, kind: spend, above: 10}")
    found = cli(reused_db_url, str(path), "--once")
    assert found.exit_code == 1
    assert "month: there is no budget 'nope'" in found.output
    assert "ok      costly: $1.00 in 1d, limit $10.00" in found.stdout


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # in a module that apprise imports
def test_watch_notifies_through_apprise(db: TimescaleDBClient, reused_db_url: str, tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="notifications need their extra")
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record(db, 1, cost=20.0)
    assert db.flush()
    address = f"json://127.0.0.1:{server.server_port}"
    path = rules(tmp_path, "{name: costly, kind: spend, above: 10}", head=f"notify: [{address!r}]")
    found = cli(reused_db_url, str(path), "--once")
    assert found.exit_code == 1
    server.shutdown()
    server.server_close()
    assert len(received) == 1, (found.output, found.exception)
    (sent,) = received
    assert (sent["title"], sent["message"]) == ("Firing: costly", "$20.00 in 1d, limit $10.00")


def test_cache_busts_are_the_calls_that_the_warnings_report(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path
) -> None:
    store_missed(reused_db_url)  # the prompts of five calls begin with another number
    line = "{name: a, kind: cache_busts, window: 1h, above: 3}"
    reading = read(db, tmp_path, line, datetime.now(UTC))
    assert (reading.value, reading.above) == (5.0, 3.0)
    assert reading.reason.startswith("5 calls broke a cached prefix in 1h: ")
    assert reading.reason.endswith(" tokens lost, most often because of: prompt changed (system prompt)")


@pytest.mark.parametrize(
    ("given", "busts"),
    [
        ("model: gpt-4.1-2025-04-14", 5),
        ("model: other", 0),
        ("provider: other", 0),
        ("query: other", 0),
        ("tags: {a: b}", 0),
    ],
)
def test_a_rule_about_cache_busts_has_the_filters(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path, given: str, busts: int
) -> None:
    store_missed(reused_db_url)
    line = f"{{name: a, kind: cache_busts, window: 1h, {given}}}"
    assert read(db, tmp_path, line, datetime.now(UTC)).value == busts


def test_cache_busts_of_every_run_of_the_window_count(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path
) -> None:
    """Neither 30 newer runs nor a run that began before the window exclude a run from the count."""
    store_missed(reused_db_url, run_id=NOW - timedelta(days=3))
    store_missed(reused_db_url, run_id=NOW - timedelta(minutes=30))
    for number in range(30):
        started = NOW + timedelta(milliseconds=number)
        db.record_llm_interaction(LLMInteractionRecord(f"q-{number}", started, "m", start_time=started))
    line = "{name: a, kind: cache_busts, window: 1h}"
    reading = read(db, tmp_path, line, datetime.now(UTC))
    assert reading.value == 10.0
    assert "compared" not in reading.reason


def test_a_rule_about_cache_busts_compares_no_more_calls_than_it_may(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path
) -> None:
    for days in range(25):
        store_missed(reused_db_url, calls=3, run_id=NOW - timedelta(days=days))
    whole = read(db, tmp_path, "{name: a, kind: cache_busts, window: 1h}", datetime.now(UTC))
    bounded = read(db, tmp_path, "{name: a, kind: cache_busts, window: 1h, max_calls: 60}", datetime.now(UTC))
    assert (whole.value, bounded.value) == (50.0, 40.0)
    assert bounded.reason.endswith(" (compared so far: 20 of 25 runs)")
    assert read(db, tmp_path, "{name: a, kind: cache_busts, window: 1h, max_calls: 1}", datetime.now(UTC)).value == 0.0


def test_a_search_for_cache_busts_continues(db: TimescaleDBClient, reused_db_url: str, tmp_path: Path) -> None:
    """The next evaluation compares the runs that the last one left out, and the runs with new calls."""
    for days in range(25):
        store_missed(reused_db_url, calls=3, run_id=NOW - timedelta(days=days))
    (rule,) = read_alerts(rules(tmp_path, "{name: a, kind: cache_busts, window: 1h, max_calls: 60}")).rules
    asked: list[str] = []
    store, searches = db.reader(), dict[str, BustSearch]()
    query = store.query

    def recorded(name: str, /, **parameters: Any) -> Any:
        asked.append(name)
        return query(name, **parameters)

    store.query = recorded  # type: ignore[method-assign]
    found = [evaluate(store, rule, datetime.now(UTC), int, searches) for _ in range(3)]
    assert [reading.value for reading in found] == [40.0, 50.0, 50.0]
    assert asked.count("explain_calls") == 2  # the third evaluation has nothing to compare
    store_missed(reused_db_url, calls=4, run_id=NOW - timedelta(days=24))
    late = evaluate(store, rule, datetime.now(UTC), int, searches)
    whole = read(db, tmp_path, "{name: a, kind: cache_busts, window: 1h}", datetime.now(UTC))
    assert (late.value, late.reason) == (whole.value, whole.reason)
    assert late.value is not None
    assert late.value > 50.0
    assert evaluate(store, rule, datetime.now(UTC) + timedelta(hours=2), int, searches).value == 0.0


def test_calls_of_long_runs_are_read_in_parts(
    db: TimescaleDBClient, reused_db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_busts, "_CALLS_PER_QUERY", 8)
    for days in range(5):
        store_missed(reused_db_url, calls=6, run_id=NOW - timedelta(days=days))
    assert read(db, tmp_path, "{name: a, kind: cache_busts, window: 1h}", datetime.now(UTC)).value == 25.0

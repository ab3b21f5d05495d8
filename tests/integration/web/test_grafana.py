"""Grafana's files: the SQL of every panel and variable runs as the reader, with the macros expanded.

Source: https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/, read 2026-11-23. Grafana itself is
not started: it has no wheel, and the suite needs no Docker.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
import yaml

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.alerts import evaluate, read_alerts, state_name, update_states
from rlm_cachetrack.analytics.alerts.rules import Rule
from tests.support.web import BEGUN, HOSTILE, store_missed, store_runs

DEPLOY = Path(__file__).resolve().parents[3] / "examples" / "deploy"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DEPLOY.glob("grafana/dashboards/*.json"))}
FROM, TO = datetime.now(UTC) - timedelta(days=90), datetime.now(UTC) + timedelta(minutes=1)


def queries() -> Iterator[Any]:
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target["rawSql"], id=f"{name}: {panel['title']}")
        for variable in dashboard["templating"]["list"]:
            yield pytest.param(variable["query"], id=f"{name}: ${variable['name']}")


def quoted(values: list[str]) -> str:
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def expanded(sql: str, variables: dict[str, list[str]]) -> str:
    """Return the SQL that Grafana sends."""
    first, last = (f"'{moment:%Y-%m-%dT%H:%M:%S.%fZ}'" for moment in (FROM, TO))
    sql = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {first} AND {last}", sql)
    assert set(re.findall(r"\$\S*", sql)) <= {f"${{{name}:sqlstring}})" for name in variables} | {
        f"${{{name}:sqlstring}}{end}" for name in variables for end in ("", "::timestamptz")
    }
    return re.sub(r"\$\{(\w+):sqlstring\}", lambda found: quoted(variables[found[1]]), sql)


def run(url: str, sql: str, **variables: list[str]) -> list[dict[str, Any]]:
    chosen = {"query": ["bench"], "run": [BEGUN.isoformat()], "model": ["tuned", HOSTILE], "provider": ["openai", ""]}
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row, options="-c default_transaction_read_only=on") as db:
        return db.execute(expanded(sql, {**chosen, **variables}).replace("%", "%%"), []).fetchall()


def set_budget(url: str, amount_usd: float = 10.0) -> None:
    with TimescaleDBClient(url) as db:
        db.set_budget(amount_usd, "month")


def panel_sql(dashboard: str, title: str) -> str:
    """Return the SQL of a panel."""
    (found,) = (one["targets"][0]["rawSql"] for one in DASHBOARDS[dashboard]["panels"] if one["title"] == title)
    return str(found)


@pytest.mark.parametrize("sql", list(queries()))
def test_every_query_runs_and_returns_the_stored_calls(sql: str, reused_db_url: str) -> None:
    store_runs(reused_db_url)
    set_budget(reused_db_url)
    rows = run(reused_db_url, sql)
    assert rows
    assert all(any(value is not None for value in row.values()) for row in rows)


KINDS = ("spend", "hit_rate", "failures", "unpriced", "budget", "silence", "cache_busts", "journal")
"""The kinds of rules of `watch`, in the order of Grafana's rules."""
ALERTS = yaml.safe_load((DEPLOY / "grafana/provisioning/alerting/rlm_cachetrack.yaml").read_text())


def test_every_alert_rule_compares_one_number(reused_db_url: str) -> None:
    store_runs(reused_db_url)
    set_budget(reused_db_url)
    rules = ALERTS["groups"][0]["rules"]
    assert len({rule["uid"] for rule in rules}) == len(rules) == len(KINDS)
    for rule in rules:
        query, threshold = rule["data"]
        (row,) = run(reused_db_url, query["model"]["rawSql"])
        assert list(row) == ["value"], rule["title"]
        assert threshold["model"]["expression"] == query["refId"]
        assert rule["condition"] == threshold["refId"]
        assert query["datasourceUid"] == "rlm_cachetrack"


def fires(url: str, uid: str) -> bool:
    """Return whether Grafana's rule holds now."""
    (rule,) = (rule for rule in ALERTS["groups"][0]["rules"] if rule["uid"] == uid)
    query, threshold = (part["model"] for part in rule["data"])
    (row,) = run(url, query["rawSql"])
    (condition,) = threshold["conditions"]
    (limit,) = condition["evaluator"]["params"]
    return bool(row["value"] > limit if condition["evaluator"]["type"] == "gt" else row["value"] < limit)


def test_each_kind_of_rule_of_watch_has_one_in_grafana() -> None:
    assert set(KINDS) == {kind.model_fields["kind"].annotation.__args__[0] for kind in get_args(get_args(Rule)[0])}


def test_the_alert_for_silence_fires_until_a_call_is_recorded(reused_db_url: str) -> None:
    with TimescaleDBClient(reused_db_url) as db:
        for hours, silent in ((2.0, True), (0.5, False)):
            moment = datetime.now(UTC) - timedelta(hours=hours)
            db.record_llm_interaction(LLMInteractionRecord("q", moment, "m", start_time=moment))
            assert db.flush()
            assert fires(reused_db_url, "rlm_cachetrack_silence") is silent


def test_alerts_of_watch_fire_in_grafana(reused_db_url: str) -> None:
    file = read_alerts(DEPLOY / "watch.yaml")
    uids = {"cache busts": "rlm_cachetrack_cache_busts", "journal backlog": "rlm_cachetrack_journal"}
    assert [rule.name for rule in file.rules] == list(uids)
    store_missed(reused_db_url)
    with TimescaleDBClient(reused_db_url) as db:
        for waiting, firing in ((10_001, True), (0, False)):
            now = datetime.now(UTC) + (timedelta(0) if firing else timedelta(hours=2))
            readings = {
                state_name(rule): evaluate(db.reader(), rule, now, lambda waiting=waiting: waiting)
                for rule in file.rules
            }
            update_states(db.reader(), readings, lambda change: None)
            assert {uid: fires(reused_db_url, uid) for uid in uids.values()} == dict.fromkeys(uids.values(), firing)


@pytest.mark.usefixtures("today")
@pytest.mark.parametrize("engine", ["timescale_url", "citus_url"])
def test_every_query_returns_the_same_on_every_engine(engine: str, db_url: str, request: pytest.FixtureRequest) -> None:
    """The hourly sums are a continuous aggregate on TimescaleDB, and a view of distributed tables on Citus."""
    engine_url = request.getfixturevalue(engine)
    for url in (engine_url, db_url):
        store_runs(url)
        set_budget(url)
    rules = ((rule["uid"], rule["data"][0]["model"]["rawSql"]) for rule in ALERTS["groups"][0]["rules"])
    for name, sql in ((param.id, param.values[0]) for param in queries()):
        there, here = run(engine_url, sql), run(db_url, sql)
        assert there, name
        assert _plain(there) == _plain(here), name
    for name, sql in rules:
        assert [list(row) for row in run(engine_url, sql)] == [["value"]], name


def _plain(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows in a fixed order, without times and without the last digits of sums."""
    return sorted(
        json.dumps(
            {
                name: float(f"{value:.9g}") if isinstance(value, float) else value
                for name, value in row.items()
                if name != "Took"
            },
            default=str,
        )
        for row in rows
    )


@pytest.mark.usefixtures("today")
def test_the_budget_panels_agree_with_the_budget(reused_db_url: str) -> None:
    now = datetime.now(UTC)
    with TimescaleDBClient(reused_db_url) as db:
        db.record_llm_interaction(
            LLMInteractionRecord("spending", now, "gpt-5.4", prompt_tokens=1, total_cost=2.5, start_time=now)
        )
        db.record_llm_interaction(
            LLMInteractionRecord("spending", now, "gpt-5.4-mini", prompt_tokens=1, total_cost=0.5, start_time=now)
        )
        db.set_budget(10.0, "month")
        db.set_budget(5.0, "day", "large", "gpt-5.4")
        checks = {name: db.check_budget(name) for name in ("default", "large")}
    assert [check["spent"] for check in checks.values()] == [3.0, 2.5]
    used = run(reused_db_url, panel_sql("overview", "Budgets used"))
    assert {row["Budget"]: row["used"] for row in used} == {"default": 30.0, "large": 50.0}
    for row in run(reused_db_url, panel_sql("overview", "Budgets")):
        check = checks[row["Budget"]]
        assert (row["Limit"], row["Spent"], row["Left"]) == (check["amount_usd"], check["spent"], check["left"])
    month = run(reused_db_url, panel_sql("overview", "Spending of this month against the budget"))
    assert [row["budget"] for row in month] == [10.0] * now.day
    assert (month[-1]["time"].day, month[-1]["spent"]) == (now.day, 3.0)


def test_the_numbers_match_the_stored_calls(reused_db_url: str) -> None:
    """By ``store_runs``, bench cost USD 0.0495 and saved 0.0225 at a hit rate of 2,500 / 6,000."""
    store_runs(reused_db_url)
    by_title = {
        panel["title"]: panel["targets"][0]["rawSql"]
        for dashboard in DASHBOARDS.values()
        for panel in dashboard["panels"]
        if panel["type"] != "timeseries"
    }
    (tokens, *_), cost = (
        run(reused_db_url, by_title[title])
        for title in ("Prompt tokens by iteration of $query", "Cost with and without the cache")
    )
    assert (tokens["cached"], tokens["not cached"]) == (0, 1000)
    assert sum(row["with"] for row in cost) == pytest.approx(0.0495)
    assert sum(row["without"] for row in cost) == pytest.approx(0.072)
    assert run(reused_db_url, by_title["Calls"], model=["tuned"], provider=["openai"])[0]["value"] == 46
    runs = {row["Query"]: row for row in run(reused_db_url, by_title["Runs started in this period"])}
    assert runs["bench"]["Saved"] == pytest.approx(0.0225)
    assert runs["bench"]["Hit rate"] == pytest.approx(2500 / 6000)


def test_dashboards_name_the_provisioned_data_source() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/rlm_cachetrack.yaml").read_text())[
        "datasources"
    ]
    assert {"overview", "runs", "models"} == set(DASHBOARDS)
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            position = panel["gridPos"]
            tiles = {
                (x, y)
                for x in range(position["x"], position["x"] + position["w"])
                for y in range(position["y"], position["y"] + position["h"])
            }
            assert not tiles & taken, panel["title"]
            assert position["x"] + position["w"] <= 24, panel["title"]
            taken |= tiles
        named = [panel["datasource"] for panel in dashboard["panels"]]
        named += [variable["datasource"] for variable in dashboard["templating"]["list"]]
        assert {(one["type"], one["uid"]) for one in named} == {(source["type"], source["uid"])}
        identities = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(identities)) == len(identities)


def test_compose_mounts_existing_files_and_listens_on_loopback_only() -> None:
    composed = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    named = set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    for service in composed["services"].values():
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:")
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in composed["volumes"]
        asked = re.findall(r"\$\{(\w+)", json.dumps(service["environment"]))
        assert set(asked) <= named
    assert all("healthcheck" in service for service in composed["services"].values())
    assert [re.findall(r"\$\{(\w+)", service["ports"][0]) for service in composed["services"].values()] == [
        ["PG_PORT"],
        ["GRAFANA_PORT"],
    ]
    script = DEPLOY / "initdb/reader.sh"
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o111  # otherwise the image sources the file in a shell with `set -u`

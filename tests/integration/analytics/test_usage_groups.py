"""Usage by any grouping, on PostgreSQL and, if it is available, on TimescaleDB."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError
from tests.support.client_calls import T0

# hours after 2026-03-28 22:00 UTC, model, provider, query, depth, user, cost
CALLS = [
    (0.0, "m-1", "openai", "q-1", 0, "u-1", 1.0),
    (0.9, "m-1", "openai", "q-1", 1, "u-2", 2.0),  # 23:54 in Berlin
    (1.5, "m-2", "openai", "q-1", 1, None, 4.0),  # 00:30 of March 29th in Berlin
    (24.5, "m-2", "mistral", "q-2", 0, "u-1", 8.0),  # 00:30 of March 30th: the clocks went forward on the 29th
    (25.5, "m-2", "mistral", "q-2", None, "u-1", 16.0),
]
START = datetime(2026, 3, 28, 22, tzinfo=UTC)


@pytest.fixture
def db(db_url: str) -> Any:
    with TimescaleDBClient(db_url) as client:
        for query in ("q-1", "q-2"):
            client.initialize_query_run(query, T0, {"agent": {"name": f"agent of {query}"}})
        for hours, model, provider, query, depth, user, cost in CALLS:
            client.record_llm_interaction(
                LLMInteractionRecord(
                    query,
                    T0,
                    model,
                    provider=provider,
                    current_depth=depth,
                    tags=None if user is None else {"user": user, "app": "shop"},
                    call_site=f"app:{model}",
                    prompt_tokens=1_000,
                    completion_tokens=10,
                    cached_tokens=250,
                    total_cost=cost,
                    original_cost=2 * cost,
                    start_time=START + timedelta(hours=hours),
                )
            )
        assert client.flush()
        yield client


def costs(db: TimescaleDBClient, *group_by: str, **more: Any) -> dict[Any, float]:
    found = db.get_usage(group_by, **more)
    return {tuple(row[name] for name in group_by) if len(group_by) > 1 else row[group_by[0]]: row["total_cost"]
            for row in found}  # fmt: skip


def test_each_grouping_sums_its_calls(db: TimescaleDBClient) -> None:
    assert costs(db, "model") == {"m-1": 3.0, "m-2": 28.0}
    assert costs(db, "provider", "model") == {("openai", "m-1"): 3.0, ("openai", "m-2"): 4.0, ("mistral", "m-2"): 24.0}
    assert costs(db, "query") == {"q-1": 7.0, "q-2": 24.0}
    assert costs(db, "depth") == {0: 9.0, 1: 6.0, None: 16.0}
    assert costs(db, "tag:user") == {"u-1": 25.0, "u-2": 2.0, None: 4.0}
    assert costs(db, "tag:user", "tag:app") == {("u-1", "shop"): 25.0, ("u-2", "shop"): 2.0, (None, None): 4.0}
    assert costs(db, "metadata.agent.name") == {"agent of q-1": 7.0, "agent of q-2": 24.0}
    assert costs(db, "call_site") == {"app:m-1": 3.0, "app:m-2": 28.0}


def test_the_figures_of_a_group(db: TimescaleDBClient) -> None:
    for group_by in ("model", "call_site"):  # from the hourly sums, and from the calls
        row = db.get_usage(group_by)[1]
        assert (row["total_interactions"], row["interactions_with_cache"], row["failed_interactions"]) == (2, 2, 0)
        assert (row["total_prompt_tokens"], row["total_cached_tokens"]) == (2_000, 500)
        assert (row["total_cost"], row["original_cost"], row["cost_savings"]) == (3.0, 6.0, 3.0)
        assert row["cache_hit_rate"] == 0.25


def test_filters_select_the_calls(db: TimescaleDBClient) -> None:
    assert costs(db, "model", query_id="q-1") == {"m-1": 3.0, "m-2": 4.0}
    assert costs(db, "model", tags={"user": "u-1"}) == {"m-1": 1.0, "m-2": 24.0}
    assert costs(db, "query", model="m-2", provider="openai") == {"q-1": 4.0}
    assert costs(db, "model", provider="mistral") == {"m-2": 24.0}
    one_hour = {"since": START + timedelta(minutes=50), "until": START + timedelta(hours=2)}
    assert costs(db, "model", **one_hour) == {"m-1": 2.0, "m-2": 4.0}


def test_days_begin_at_midnight_of_the_time_zone_also_when_the_clocks_change(db: TimescaleDBClient) -> None:
    assert costs(db, "day") == {datetime(2026, 3, 28, tzinfo=UTC): 7.0, datetime(2026, 3, 29, tzinfo=UTC): 24.0}
    by_day = db.get_usage("day", time_zone="Europe/Berlin")
    assert [(row["day"].isoformat(), row["total_cost"]) for row in by_day] == [
        ("2026-03-28T00:00:00+01:00", 3.0),
        ("2026-03-29T00:00:00+01:00", 4.0),
        ("2026-03-30T00:00:00+02:00", 24.0),
    ]
    in_india = db.get_usage("day", time_zone="Asia/Kolkata")  # 5:30 ahead: its days begin within an hour of UTC
    assert [(row["day"].isoformat(), row["total_cost"]) for row in in_india] == [
        ("2026-03-29T00:00:00+05:30", 7.0),
        ("2026-03-30T00:00:00+05:30", 24.0),
    ]


def test_weeks_and_months_begin_at_midnight_of_the_time_zone(db: TimescaleDBClient) -> None:
    """The calls are those of Saturday to Monday around the change of the clocks; Monday in Berlin is Sunday in UTC."""
    for group_by, more in (("week", {}), ("week", {"tags": {"app": "shop"}})):  # from hourly sums, and from the calls
        by_week = db.get_usage(group_by, time_zone="Europe/Berlin", **more)
        assert [row["week"].isoformat() for row in by_week] == [
            "2026-03-23T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ]
    assert [row["total_cost"] for row in db.get_usage("week", time_zone="Europe/Berlin")] == [7.0, 24.0]
    assert [row["total_cost"] for row in db.get_usage("week")] == [31.0]
    (month,) = db.get_usage("month", time_zone="Europe/Berlin")
    assert (month["month"].isoformat(), month["total_cost"]) == ("2026-03-01T00:00:00+01:00", 31.0)


def test_the_command_line_tells_a_repeated_hour_from_the_other(db: TimescaleDBClient, db_url: str) -> None:
    for hour in (0, 1):  # 02:30 of summer time and of winter time in Berlin
        moment = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
        db.record_llm_interaction(LLMInteractionRecord("q-3", T0, "m-1", start_time=moment))
    assert db.flush()
    shown = run(db_url, "--by", "hour", "--tz", "Europe/Berlin", "--query", "q-3", "--range", "all").stdout
    assert "2026-10-25 02:00+02:00" in shown
    assert "2026-10-25 02:00+01:00" in shown


def test_the_hour_that_the_clocks_repeat_is_two_hours(db: TimescaleDBClient) -> None:
    for hour in (0, 1):  # 02:30 twice in Berlin: before and after the clocks go back
        started = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
        db.record_llm_interaction(LLMInteractionRecord("q-3", T0, "m-3", total_cost=1.0, start_time=started))
    assert db.flush()
    by_hour = db.get_usage("hour", time_zone="Europe/Berlin", model="m-3")
    assert [row["hour"].isoformat() for row in by_hour] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]
    (day,) = db.get_usage("day", time_zone="Europe/Berlin", model="m-3")
    assert (day["day"].isoformat(), day["total_cost"]) == ("2026-10-25T00:00:00+02:00", 2.0)


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("agent", "group_by='agent': expected model, provider"),
        ((), "group_by has 0 entries"),
        (("day", "hour"), "expected one unit of time"),
        (("model", "model"), "names a grouping twice"),
        ("tag:", "group_by"),
        (("tag:a", "tag:b", "tag:c", "tag:d"), "expected at most 3 tags"),
    ],
)
def test_an_unknown_grouping_is_refused(db: TimescaleDBClient, group_by: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        db.get_usage(group_by)


def test_an_unknown_time_zone_is_refused(db: TimescaleDBClient) -> None:
    with pytest.raises(ConfigError, match="time zone 'Europe/Nowhere' is unknown"):
        db.get_usage("day", time_zone="Europe/Nowhere")


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["usage", *arguments, "--db-url", url], env={"COLUMNS": "120"})


def test_usage_by_groups_on_the_command_line(db: TimescaleDBClient, db_url: str) -> None:
    printed = run(db_url, "--by", "tag:user,model", "--range", "all")
    assert printed.exit_code == 0
    assert [line.split()[:3] for line in printed.stdout.splitlines()[1:]] == [
        ["u-1", "m-2", "2"],
        ["(none)", "m-2", "1"],
        ["u-2", "m-1", "1"],
        ["u-1", "m-1", "1"],
    ]
    found = json.loads(run(db_url, "--by", "query", "--tag", "user=u-1", "--range", "all", "--json").stdout)
    assert [(row["query"], row["total_cost"]) for row in found] == [("q-2", 24.0), ("q-1", 1.0)]
    csv = run(db_url, "--by", "depth", "--range", "all", "--csv").stdout.splitlines()
    assert csv[0].startswith("depth,total_interactions,")
    assert len(csv) == 4
    assert "2026-03-29" in run(db_url, "--tz", "Asia/Kolkata", "--range", "all").stdout
    assert run(db_url, "--tag", "user").exit_code == 2
    assert "--tag =u-1: expected NAME=VALUE" in run(db_url, "--tag", "=u-1").output
    assert run(db_url, "--by", "nothing").exit_code == 2

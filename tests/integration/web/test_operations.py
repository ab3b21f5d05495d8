"""The pages for operations over real HTTP: alerts, links to traces, and dead letters that are retried or discarded."""

from __future__ import annotations

import html
import json
import re
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import timedelta
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.analytics.alerts import Reading, update_states
from rlm_cachetrack.cli import app
from rlm_cachetrack.client import runtime_for
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.web.source import DashboardStore
from tests.integration.pipeline.test_writer import sql, stored
from tests.support.web import BEGUN, record, served

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def fetch(url: str, form: list[tuple[str, str]] | None = None) -> tuple[int, str]:
    body = None if form is None else urlencode(form).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=180) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with closing(exc):
            return exc.code, exc.read().decode()


def words(page: str) -> str:
    content = page[page.index('<div id="content"') :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


def test_alerts_show_the_state_of_the_rules(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db, served(db_url) as address:
        assert "No alert rule was evaluated yet" in words(fetch(f"{address}/alerts")[1])
        db.record_llm_interaction(record("any", BEGUN, prompt_tokens=1000, cached_tokens=0))
        db.flush()
        readings = {
            "failures": Reading(1.0, 10.0, 9.0, "1.0% of 400 calls failed in 1h"),
            "daily spend": Reading(61.2, 50.0, 45.0, "$61.20 in 24h, limit $50.00"),
        }
        update_states(db.runtime.store(), readings, lambda change: None)
        time.sleep(0.6)  # the dashboard keeps a result for half a second
        shown = words(fetch(f"{address}/alerts")[1])
        assert re.search(r"daily spend firing \S+ \S+ \$61\.20 in 24h, limit \$50\.00 sent failures ok", shown)
        alerts = json.loads(fetch(f"{address}/api/alerts")[1])
        assert [(alert["name"], alert["firing"]) for alert in alerts] == [("daily spend", True), ("failures", False)]
        assert "1 alert is firing : daily spend ($61.20 in 24h, limit $50.00)" in words(fetch(address)[1])


def test_a_rule_that_was_removed_while_it_fired_does_not_fire(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(record("any", BEGUN, prompt_tokens=1000, cached_tokens=0))
        db.flush()
        store, firing = db.runtime.store(), Reading(61.2, 50.0, 45.0, "$61.20 in 24h")
        update_states(store, {"removed": firing}, lambda change: None, timedelta(0))
        update_states(store, {"kept": firing}, lambda change: None)
    with served(db_url) as address:
        shown = words(fetch(f"{address}/alerts")[1])
        assert re.search(r"kept firing .* removed not evaluated", shown)
        alerts = json.loads(fetch(f"{address}/api/alerts")[1])
        assert [(alert["name"], alert["firing"], alert["is_current"]) for alert in alerts] == [
            ("kept", True, True),
            ("removed", False, False),
        ]
        assert "1 alert is firing : kept" in words(fetch(address)[1])


def test_calls_link_to_their_traces(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for number in range(2):
            made = record("traced", BEGUN, number, prompt_tokens=10, success=not number)
            made.trace_id = TRACE if number else None
            db.record_llm_interaction(made)
        db.flush()
    run = f"/run?{urlencode({'query_id': 'traced', 'run_id': BEGUN.isoformat()})}"
    link = f'href="https://traces.example.com/?id={TRACE}&amp;view=tree"'
    with served(db_url, "--trace-url", "https://traces.example.com/?id={trace_id}&view=tree") as address:
        for path in (run, "/failed?range=all"):
            assert fetch(address + path)[1].count(link) == 1, path
    with served(db_url) as address:
        assert "traces.example.com" not in fetch(address + run)[1]


@pytest.mark.parametrize("given", ["https://traces.example.com/", "javascript:alert({trace_id})", "{trace_id}"])
def test_a_trace_url_that_leads_nowhere_is_refused(given: str, db_url: str) -> None:
    result = CliRunner().invoke(app, ["dashboard", "--trace-url", given, "--port", "0", "--db-url", db_url])
    assert result.exit_code == 2
    assert "contains {trace_id}" in " ".join(result.stderr.split())


# -- dead letters ------------------------------------------------------------------------------------------------------


def letters(url: str) -> list[str]:
    return [letter.id for letter in runtime_for(url).dead_letters.read()]


def send(address: str, action: str, ids: list[str]) -> tuple[int, str]:
    token = form_token(fetch(f"{address}/health")[1])
    form = [("action", action), ("form_token", token), *(("id", one) for one in ids)]
    status, page = fetch(f"{address}/health/dead-letters", form)
    return status, words(page)


def form_token(page: str) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_dead_letters_are_retried_on_the_page_health(rejecting: str) -> None:
    with served(rejecting) as address:
        assert "Stored: 0 records. Rejected again: 1 record." in send(address, "retry", letters(rejecting)[:1])[1]
        sql(rejecting, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
        assert "Stored: 2 records." in send(address, "retry", letters(rejecting))[1]
        assert letters(rejecting) == []
    assert stored(rejecting) == ["bad", "bad", "good"]


def test_dead_letters_are_discarded_on_the_page_health(rejecting: str) -> None:
    first, second = letters(rejecting)
    with served(rejecting) as address:
        assert fetch(f"{address}/health")[1].count("Delete permanently") == 3  # one per record, and one for all
        assert "Deleted: 1 record." in send(address, "discard", [first])[1]
    assert letters(rejecting) == [second]


def test_a_form_of_another_site_changes_nothing(rejecting: str) -> None:
    before = letters(rejecting)
    with served(rejecting) as address:
        for more in ([], [("form_token", "x")], [("form_token", "")]):
            form = [("id", before[0]), ("action", "discard"), *more]
            assert fetch(f"{address}/health/dead-letters", form)[0] == 403
        assert fetch(f"{address}/health/dead-letters")[0] == 405
    assert letters(rejecting) == before


def test_a_role_that_may_only_read_changes_no_dead_letter(rejecting: str) -> None:
    name = f"reader_{time.time_ns()}"
    with psycopg.connect(rejecting, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        try:
            reader = make_conninfo(rejecting, user=name)
            source = DashboardStore(reader)
            with pytest.raises(ConfigError, match="may only read"):
                source.discard_dead_letters(["x"])
            source.close()
            runtime_for(reader).dead_letters.write(runtime_for(rejecting).dead_letters.read())
            with served(reader) as address:
                page = fetch(f"{address}/health")[1]
                assert "no_such_model" in page
                assert '<button type="submit" name="action"' not in page
        finally:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")

"""Whether a run goes on is said in several queries, which PostgreSQL must see whole: alike in all of them."""

from __future__ import annotations

import re

from rlm_cachetrack.store import named_sql as _sql

STATE = re.compile(r"CASE\s+WHEN (\w+)\.status <> 'running'.*?END AS state", re.DOTALL)


def test_every_query_tells_the_state_of_a_run_alike() -> None:
    said = {}
    for path in (_sql.schema_dir() / "queries").glob("*.sql"):
        text = path.read_text()
        for found in STATE.finditer(text):
            said[path.stem] = " ".join(found[0].replace(f"{found[1]}.", "").split())
    assert {"query_run_summary", "runs_list", "runs_newest_page", "runs_page"} <= set(said)
    assert len(set(said.values())) == 1, said

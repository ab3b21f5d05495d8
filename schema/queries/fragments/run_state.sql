-- run_state: the state of a run: its status, or 'no end' if the run has no stored end and no call arrived for one hour.
-- Needs:  a row of query_run_summaries.
CASE
    WHEN status <> 'running' OR end_time IS NOT NULL THEN status
    WHEN greatest(last_call_time, start_time) > now() - INTERVAL '1 hour' THEN 'running'
    ELSE 'no end'
END

-- run_state: the state of a run: its status, or 'never completed' if the run has no stored end and made no call for an
--            hour.
-- Needs:  a row of query_run_summaries.
CASE
    WHEN status <> 'running' OR end_time IS NOT NULL THEN status
    WHEN greatest(last_call_time, start_time) > now() - INTERVAL '1 hour' THEN 'running'
    ELSE 'never completed'
END

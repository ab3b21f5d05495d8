-- store_run_outcome: Store the outcome of a run. A run that is not stored yet is listed; its start follows.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; success BOOLEAN, score DOUBLE PRECISION, label TEXT: NULL leaves the
--             stored value unchanged.
-- Result:     none.
INSERT INTO query_run_summaries AS s (query_id, run_id, start_time, success, score, outcome_label)
VALUES (%(query_id)s, %(run_id)s, %(run_id)s, %(success)s, %(score)s, %(label)s)
ON CONFLICT (query_id, run_id) DO UPDATE SET
    success = coalesce(excluded.success, s.success),
    score = coalesce(excluded.score, s.score),
    outcome_label = coalesce(excluded.outcome_label, s.outcome_label);

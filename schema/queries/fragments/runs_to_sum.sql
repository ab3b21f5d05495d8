-- runs_to_sum: the next runs of a re-pricing whose sums are not updated yet.
-- Parameters: change_id BIGINT; size BIGINT: at most this many runs.
SELECT query_id, run_id FROM price_change_runs
WHERE change_id = %(change_id)s AND NOT summed
ORDER BY query_id, run_id
LIMIT %(size)s

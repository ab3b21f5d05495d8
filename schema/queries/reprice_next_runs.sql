-- reprice_next_runs: Return the next runs of a re-pricing whose sums are not updated yet: the oldest, of at most 30 days.
-- Parameters: change_id BIGINT; size BIGINT: at most about this many runs.
-- Result:     one row: last_run TIMESTAMPTZ: run_id of the last of them, NULL if none is left; first_call, last_call
--             TIMESTAMPTZ: time range of their calls, NULL if it is unknown for one of them. A query with this range as
--             a constant reads and plans only its days, however many days are stored.
WITH next AS (
    SELECT p.run_id, s.first_call_time, s.last_call_time
    FROM price_change_runs AS p
    LEFT JOIN query_run_summaries AS s ON s.query_id = p.query_id AND s.run_id = p.run_id
    WHERE p.change_id = %(change_id)s AND NOT p.summed
    ORDER BY p.run_id
    LIMIT %(size)s
)
SELECT
    max(run_id) AS last_run,
    CASE WHEN count(first_call_time) = count(*) THEN min(first_call_time) END AS first_call,
    CASE WHEN count(last_call_time) = count(*) THEN max(last_call_time) END AS last_call
FROM next
WHERE run_id <= (SELECT min(run_id) FROM next) + INTERVAL '30 days';

-- dashboard_marker: something that differs when calls or runs came or ended; asked twice a second while a page is open.
-- Parameters: none.
-- Result:     one row: marker TEXT. Reads the ends of two indexes and at most 20,000 calls of the last ten minutes; what is
--             stored later than that, such as an import, shows with the page's refresh once a minute.
SELECT concat_ws(
    '/',
    (SELECT max(time) FROM llm_interactions),
    (
        SELECT count(*)
        FROM (SELECT 1 FROM llm_interactions WHERE time > now() - INTERVAL '10 minutes' LIMIT 20000) AS recent
    ),
    newest.runs, newest.ended, newest.started
) AS marker
FROM (
    SELECT count(*) AS runs, count(end_time) AS ended, max(start_time) AS started
    FROM (SELECT start_time, end_time FROM query_run_summaries ORDER BY start_time DESC, query_id LIMIT 200) AS r
) AS newest;

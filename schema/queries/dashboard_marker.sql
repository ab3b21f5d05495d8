-- dashboard_marker: Return a value that changes when calls or runs are stored, changed or deleted. An open page reads
--             it four times per second.
-- Parameters: none.
-- Result:     one row: marker TEXT. Reads the ends of two indexes, at most 5,000 calls of the last ten minutes by their
--             index, and PostgreSQL's row counters (of chunks too). The counters show changes to older calls, such as
--             those of an import. They lag by up to ten seconds for a busy writer, and do not change on a standby or on
--             Citus, where the page shows such calls at its next refresh, once a minute.
SELECT concat_ws(
    '/',
    (SELECT max(time) FROM llm_interactions),
    (
        SELECT count(*)
        FROM (SELECT 1 FROM llm_interactions WHERE time > now() - INTERVAL '10 minutes' LIMIT 5000) AS recent
    ),
    (
        SELECT
            sum(pg_stat_get_tuples_inserted(t.oid) + pg_stat_get_tuples_updated(t.oid) + pg_stat_get_tuples_deleted(t.oid))
        FROM (
            SELECT 'llm_interactions'::regclass::oid AS oid
            UNION ALL
            SELECT inhrelid FROM pg_inherits WHERE inhparent = 'llm_interactions'::regclass
        ) AS t
    ),
    newest.runs, newest.ended, newest.started
) AS marker
FROM (
    SELECT count(*) AS runs, count(end_time) AS ended, max(start_time) AS started
    FROM (SELECT start_time, end_time FROM query_run_summaries ORDER BY start_time DESC, query_id LIMIT 200) AS r
) AS newest;

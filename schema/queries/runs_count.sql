-- runs_count: Return how many runs the list of runs has.
-- Parameters: those of fragments/run_page_filters.sql; search, outcome, state: as in runs_page. limit BIGINT: counting stops
--             there.
-- Result:     one row: runs BIGINT.
SELECT count(*) AS runs
FROM (
    SELECT 1
    FROM (
        SELECT s.*, -- include: fragments/run_state.sql AS state
        FROM query_run_summaries AS s
        WHERE -- include: fragments/run_page_filters.sql
          AND -- include: fragments/run_page_search.sql
    ) AS t
    WHERE (%(state)s::text IS NULL OR t.state = %(state)s::text)
    LIMIT %(limit)s
) AS counted;

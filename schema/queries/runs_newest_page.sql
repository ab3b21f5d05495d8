-- runs_newest_page: Return a page of runs, newest first.
-- Parameters: those of fragments/run_page_filters.sql; search, outcome, state, limit: as in runs_page. after_time TIMESTAMPTZ,
--             after_query_id TEXT, after_run_id TIMESTAMPTZ: start_time and key of the last row of the previous page;
--             NULL for the first page.
-- Result:     as in runs_page; key is NULL. A run is listed once its start or a call of it is stored. Served by
--             idx_query_run_summaries_start, or by the primary key for one query.
WITH page AS (
    SELECT t.*, NULL::double precision AS key
    FROM (
        SELECT s.*, -- include: fragments/run_state.sql AS state
        FROM query_run_summaries AS s
        WHERE s.start_time <= coalesce(%(after_time)s::timestamptz, 'infinity')
          AND (
              %(after_query_id)s::text IS NULL
              OR s.start_time < %(after_time)s::timestamptz
              OR s.query_id > %(after_query_id)s::text
              OR (s.query_id = %(after_query_id)s::text AND s.run_id < %(after_run_id)s::timestamptz)
          )
          AND -- include: fragments/run_page_filters.sql
          AND -- include: fragments/run_page_search.sql
    ) AS t
    WHERE (%(state)s::text IS NULL OR t.state = %(state)s::text)
    ORDER BY t.start_time DESC, t.query_id, t.run_id DESC
    LIMIT %(limit)s
)
-- include: fragments/run_page_rows.sql
ORDER BY p.start_time DESC, p.query_id, p.run_id DESC;

-- run_page_sorted: a page of runs by their key, highest first.
-- Needs:  CTE listed: rows of query_run_summaries with state and key.
-- Parameters: state TEXT, after_key DOUBLE PRECISION, after_query_id TEXT, after_run_id TIMESTAMPTZ, limit BIGINT.
page AS (
    SELECT *
    FROM listed
    WHERE (%(state)s::text IS NULL OR state = %(state)s::text)
      AND (
          %(after_query_id)s::text IS NULL
          OR (key, query_id, run_id)
              < (%(after_key)s::double precision, %(after_query_id)s::text, %(after_run_id)s::timestamptz)
      )
    ORDER BY key DESC, query_id DESC, run_id DESC
    LIMIT %(limit)s
)
-- include: fragments/run_page_rows.sql
ORDER BY p.key DESC, p.query_id DESC, p.run_id DESC

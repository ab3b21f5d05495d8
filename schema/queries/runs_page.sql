-- runs_page: Return a page of runs, sorted by one of their figures.
-- Parameters: those of fragments/run_page_filters.sql. search TEXT: part of the query_id, as a LIKE pattern without
--             regard to case; state TEXT: see fragments/run_state.sql; NULL for any. sort TEXT: duration, calls, tokens,
--             cost, saved, hit_rate or start. direction INTEGER: 1 highest first, -1 lowest first. after_key DOUBLE
--             PRECISION, after_query_id TEXT, after_run_id TIMESTAMPTZ: of the last row of the previous page; NULL for
--             the first page. limit BIGINT.
-- Result:     one row per run; key is the value of the sort, for after_key. Runs are sorted by the totals that were
--             stored when they ended; runs without stored totals come last. Figures: see
--             fragments/run_figure_columns.sql.
-- Reads one row per run from the tables of runs.
WITH listed AS (
    SELECT
        s.query_id, s.run_id, s.start_time, s.end_time, s.status, s.first_call_time, s.last_call_time,
        s.total_interactions, s.failed_interactions, s.total_prompt_tokens, s.total_completion_tokens,
        s.total_cached_tokens, s.reported_prompt_tokens, s.rated_cached_tokens, s.total_cost, s.metadata,
        -- include: fragments/run_state.sql AS state,
        coalesce(
            %(direction)s::integer * CASE %(sort)s::text
                WHEN 'duration' THEN extract(epoch FROM s.end_time - s.start_time)::double precision
                WHEN 'calls' THEN s.total_interactions::double precision
                WHEN 'tokens' THEN s.total_prompt_tokens::double precision
                WHEN 'cost' THEN s.total_cost
                WHEN 'saved' THEN o.cost_savings
                WHEN 'hit_rate' THEN o.cache_savings_percentage
                ELSE extract(epoch FROM s.start_time)::double precision
            END,
            '-infinity'
        ) AS key
    FROM query_run_summaries AS s
    LEFT JOIN token_cache_optimization AS o USING (query_id, run_id)
    WHERE -- include: fragments/run_page_filters.sql
      AND (%(search)s::text IS NULL OR s.query_id ILIKE %(search)s::text)
),
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
ORDER BY p.key DESC, p.query_id DESC, p.run_id DESC;

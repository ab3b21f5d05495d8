-- runs_page: Return a page of runs, sorted by one of their figures.
-- Parameters: those of fragments/run_page_filters.sql and fragments/run_page_search.sql. state TEXT: see
--             fragments/run_state.sql; NULL for any. sort TEXT: duration, calls, tokens, cost, hit_rate or start.
--             direction INTEGER: 1 highest first, -1 lowest first. after_key DOUBLE PRECISION, after_query_id TEXT,
--             after_run_id TIMESTAMPTZ: of the last row of the previous page; NULL for the first page. limit BIGINT.
-- Result:     one row per run; key is the value of the sort, for after_key. Runs are sorted by the totals that were
--             stored when they ended; runs without stored totals come last. Figures: see
--             fragments/run_figure_columns.sql.
-- Reads one row per run from query_run_summaries.
WITH listed AS (
    SELECT
        -- include: fragments/run_page_columns.sql,
        -- include: fragments/run_state.sql AS state,
        coalesce(
            %(direction)s::integer * CASE %(sort)s::text
                WHEN 'duration' THEN extract(epoch FROM s.end_time - s.start_time)::double precision
                WHEN 'calls' THEN s.total_interactions::double precision
                WHEN 'tokens' THEN s.total_prompt_tokens::double precision
                WHEN 'cost' THEN s.total_cost
                WHEN 'hit_rate' THEN s.rated_cached_tokens::double precision / nullif(s.reported_prompt_tokens, 0)
                ELSE extract(epoch FROM s.start_time)::double precision
            END,
            '-infinity'
        ) AS key
    FROM query_run_summaries AS s
    WHERE -- include: fragments/run_page_filters.sql
      AND -- include: fragments/run_page_search.sql
),
-- include: fragments/run_page_sorted.sql;

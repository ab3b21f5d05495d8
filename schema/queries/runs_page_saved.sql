-- runs_page_saved: Return a page of runs, sorted by their savings.
-- Parameters: those of runs_page without sort.
-- Result:     as in runs_page.
-- Reads one row per run from the tables of runs. The other figures are in query_run_summaries: runs_page joins no other
-- table, because TimescaleDB does not remove a join that is not needed.
WITH listed AS (
    SELECT
        -- include: fragments/run_page_columns.sql,
        -- include: fragments/run_state.sql AS state,
        coalesce(%(direction)s::integer * o.cost_savings, '-infinity') AS key
    FROM query_run_summaries AS s
    LEFT JOIN token_cache_optimization AS o USING (query_id, run_id)
    WHERE -- include: fragments/run_page_filters.sql
      AND -- include: fragments/run_page_search.sql
),
-- include: fragments/run_page_sorted.sql;

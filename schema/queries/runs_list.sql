-- runs_list: Return the newest runs.
-- Parameters: query_id TEXT: only its runs, NULL for all. limit BIGINT.
-- Result:     one row per run, newest first; a run is listed once its start or a call of it is stored. Figures: see
--             fragments/run_figure_columns.sql; total_cost: USD over the priced calls; cache_hit_rate: 0-1 over the calls that
--             reported. state: see fragments/run_state.sql. Served by idx_query_run_summaries_start, or by the primary
--             key for one query.
WITH page AS (
    SELECT
        query_id, run_id, start_time, end_time, status, metadata, first_call_time, last_call_time, total_interactions,
        failed_interactions, total_prompt_tokens, total_completion_tokens, total_cached_tokens, reported_prompt_tokens,
        rated_cached_tokens, total_cost
    FROM query_run_summaries
    WHERE %(query_id)s::text IS NULL OR query_id = %(query_id)s::text
    ORDER BY start_time DESC, query_id, run_id DESC
    LIMIT %(limit)s
)
SELECT
    p.query_id, p.run_id, p.start_time, p.end_time, p.status,
    -- include: fragments/run_state.sql AS state,
    -- include: fragments/run_figure_columns.sql,
    p.metadata
-- include: fragments/run_page_savings.sql
ORDER BY p.start_time DESC, p.query_id, p.run_id DESC;

-- reprice_stage_runs: Create a temporary table, dropped at commit, of the new sums of the next runs of a re-pricing.
-- Parameters: change_id BIGINT; size BIGINT: at most this many runs.
-- Result:     none. *_cost, cost_savings: USD, over the same calls as in store_optimization and store_run_totals.
CREATE TEMPORARY TABLE rlm_cachetrack_resummed ON COMMIT DROP AS
SELECT
    r.query_id, r.run_id,
    -- include: fragments/cost_savings.sql,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS cached_cost,
    count(*) FILTER (WHERE c.total_cost IS NULL AND (c.success OR c.prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(c.total_cost) AS total_cost
FROM (
    -- include: fragments/runs_to_sum.sql
) AS r
JOIN llm_interactions AS c ON c.query_id = r.query_id AND c.run_id = r.run_id
GROUP BY r.query_id, r.run_id;

-- reprice_stage_runs: sum up some of the runs again, in a table that lives as long as this transaction.
-- Parameters: change_id BIGINT; size BIGINT: how many runs at most.
-- Result:     none. *_cost, cost_savings: USD, over the same calls as in store_optimization and store_run_totals.
CREATE TEMPORARY TABLE rlm_cachetrack_resummed ON COMMIT DROP AS
SELECT
    r.query_id, r.run_id,
    sum(c.original_cost) FILTER (WHERE c.total_cost IS NOT NULL) AS original_cost,
    sum(c.total_cost) FILTER (WHERE c.original_cost IS NOT NULL) AS cached_cost,
    sum(c.original_cost - c.total_cost) AS cost_savings,
    count(*) FILTER (WHERE c.total_cost IS NULL AND (c.success OR c.prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(c.total_cost) AS total_cost
FROM (
    SELECT query_id, run_id FROM price_change_runs
    WHERE change_id = %(change_id)s AND NOT summed
    ORDER BY query_id, run_id
    LIMIT %(size)s
) AS r
JOIN llm_interactions AS c ON c.query_id = r.query_id AND c.run_id = r.run_id
GROUP BY r.query_id, r.run_id;

-- run_stored_totals: Return the totals of one run as they were stored at its end, for a run whose calls are not all stored
--             any more.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ.
-- Result:     one row with columns of run_totals, without those that are not stored, and cache_evolution JSONB as in
--             optimization; no row if the stored totals are not usable: see analytics/run_figures.py.
SELECT
    s.total_interactions, s.failed_interactions, s.total_prompt_tokens, s.total_completion_tokens, s.total_tokens,
    s.total_cached_tokens, s.reported_prompt_tokens - s.rated_cached_tokens AS total_uncached_tokens,
    s.rated_cached_tokens::double precision / nullif(s.reported_prompt_tokens, 0) AS cache_hit_rate,
    s.total_cost, o.cached_cost, o.original_cost, o.cost_savings,
    o.interactions_with_cache, o.interactions_without_cache, o.interactions_not_reported, o.unpriced_interactions,
    s.avg_duration_ms, s.p50_duration_ms, s.p95_duration_ms, s.p99_duration_ms,
    s.first_call_time, s.last_call_time, o.time, o.cache_evolution
FROM query_run_summaries AS s
JOIN token_cache_optimization AS o
  ON o.query_id = s.query_id AND o.run_id = s.run_id AND o.total_interactions = s.total_interactions
WHERE s.query_id = %(query_id)s AND s.run_id = %(run_id)s
  AND s.reported_prompt_tokens IS NOT NULL;

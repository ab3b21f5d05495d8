-- store_run_totals: Store the totals and latency percentiles of ended runs in query_run_summaries. Stored totals are never
--             replaced by sums over fewer calls, for example after retention dropped some.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element; first_call, last_call TIMESTAMPTZ:
--             as runs_bounds returns them for these runs, NULL for no bound.
-- Result:     none. *_cost: USD over the priced calls. *_ms: milliseconds.
UPDATE query_run_summaries AS s SET
    total_interactions = t.total_interactions,
    failed_interactions = t.failed_interactions,
    total_prompt_tokens = t.total_prompt_tokens,
    total_completion_tokens = t.total_completion_tokens,
    total_tokens = t.total_tokens,
    total_cached_tokens = t.total_cached_tokens,
    reported_prompt_tokens = t.reported_prompt_tokens,
    rated_cached_tokens = t.rated_cached_tokens,
    total_cost = t.total_cost,
    avg_duration_ms = t.avg_duration_ms,
    p50_duration_ms = t.p50_duration_ms,
    p95_duration_ms = t.p95_duration_ms,
    p99_duration_ms = t.p99_duration_ms
FROM (
    SELECT k.query_id, k.run_id, c.*
    FROM (
        SELECT DISTINCT u.query_id, u.run_id
        FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS u (query_id, run_id)
    ) AS r
    JOIN query_run_summaries AS k ON k.query_id = r.query_id AND k.run_id = r.run_id
    CROSS JOIN LATERAL (
        SELECT
            -- include: fragments/run_sums.sql,
            coalesce(sum(coalesce(total_tokens, prompt_tokens + coalesce(completion_tokens, 0))), 0)::bigint AS total_tokens,
            coalesce(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0)::bigint AS reported_prompt_tokens,
            coalesce(sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL), 0)::bigint AS rated_cached_tokens,
            -- include: fragments/run_latencies.sql
        FROM llm_interactions AS i
        WHERE i.query_id = k.query_id AND i.run_id = k.run_id
          AND -- include: fragments/call_time_bounds.sql
    ) AS c
) AS t
WHERE s.query_id = t.query_id AND s.run_id = t.run_id
  AND t.total_interactions >= coalesce(s.total_interactions, 0);

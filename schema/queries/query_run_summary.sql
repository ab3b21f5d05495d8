-- query_run_summary: one run: when, how it ended, its totals and latencies.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_bounds gives them, NULL for
--             no bound.
-- Result:     one row, or none for an unknown run. Totals are counted from the calls. *_ms: milliseconds over the calls
--             that have a duration. total_cost: USD over the priced calls. state: as in runs_list.
SELECT
    s.query_id, s.run_id, s.start_time, s.end_time, s.status, s.metadata,
    CASE
        WHEN s.status <> 'running' OR s.end_time IS NOT NULL THEN s.status
        WHEN greatest(s.last_call_time, s.start_time) > now() - INTERVAL '1 hour' THEN 'running'
        ELSE 'no end'
    END AS state,
    extract(epoch FROM s.end_time - s.start_time)::double precision * 1000 AS duration_ms,
    c.*
FROM query_run_summaries AS s
CROSS JOIN LATERAL (
    SELECT
        count(*) AS total_interactions,
        count(*) FILTER (WHERE NOT success) AS failed_interactions,
        coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
        coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
        coalesce(sum(coalesce(total_tokens, prompt_tokens + coalesce(completion_tokens, 0))), 0)::bigint AS total_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
        sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL)::double precision
            / nullif(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0) AS cache_hit_rate,
        sum(total_cost) AS total_cost,
        sum(original_cost - total_cost) AS cost_savings,
        avg(duration_ms) AS avg_duration_ms,
        percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_duration_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms,
        percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_duration_ms
    FROM llm_interactions AS i
    WHERE i.query_id = s.query_id AND i.run_id = s.run_id AND i.query_id = %(query_id)s  -- on Citus: of one shard
      AND time >= coalesce(%(first_call)s::timestamptz, '-infinity')
      AND time <= coalesce(%(last_call)s::timestamptz, 'infinity')
) AS c
WHERE s.query_id = %(query_id)s AND s.run_id = %(run_id)s;

-- query_run_summary: Return one run with its state, totals and latencies.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_bounds returns them, NULL
--             for no bound.
-- Result:     one row, none for an unknown run. Totals are computed from the calls. *_ms: milliseconds over the calls
--             that have a duration. total_cost: USD over the priced calls. state: see fragments/run_state.sql.
SELECT
    s.query_id, s.run_id, s.start_time, s.end_time, s.status, s.metadata,
    -- include: fragments/run_state.sql AS state,
    extract(epoch FROM s.end_time - s.start_time)::double precision * 1000 AS duration_ms,
    c.*
FROM query_run_summaries AS s
CROSS JOIN LATERAL (
    SELECT
        -- include: fragments/run_sums.sql,
        coalesce(sum(coalesce(total_tokens, prompt_tokens + coalesce(completion_tokens, 0))), 0)::bigint AS total_tokens,
        -- include: fragments/cache_hit_rate.sql AS cache_hit_rate,
        sum(original_cost - total_cost) AS cost_savings,
        -- include: fragments/run_latencies.sql
    FROM llm_interactions AS i
    WHERE i.query_id = s.query_id AND i.run_id = s.run_id AND i.query_id = %(query_id)s  -- so that Citus reads one shard
      AND -- include: fragments/call_time_bounds.sql
) AS c
WHERE s.query_id = %(query_id)s AND s.run_id = %(run_id)s;

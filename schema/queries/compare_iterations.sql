-- compare_iterations: Return the figures of each iteration of some runs, to compare the runs.
-- Parameters: query_ids TEXT[], run_ids TIMESTAMPTZ[]: the runs, element by element; first_call, last_call TIMESTAMPTZ:
--             as runs_bounds returns them, NULL for no bound.
-- Result:     one row per run and iteration, in order: query_id, run_id, iteration (calls without one are numbered by
--             time, after the others), numbered (whether a call of it had one); calls, failed, unpriced: counts;
--             prompt_tokens, completion_tokens, cache_write_tokens; reported_prompt_tokens, cached_tokens: over the
--             calls that reported, NULL if none did; total_cost, original_cost: USD over the priced calls, NULL if
--             there is none; ttft_ms, duration_ms: sums over ttft_calls and duration_calls successful calls; models,
--             providers, tiers: sorted TEXT[]. priced_*: over the priced calls only: priced_calls; priced_prompt,
--             priced_cached, priced_written, priced_completion: tokens; prompt_at_*: USD of all prompt tokens at each
--             input price; cost_of_*: USD of each type of token at the prices of the row.
WITH wanted AS (
    SELECT query_id, run_id
    FROM unnest(%(query_ids)s::text[], %(run_ids)s::timestamptz[]) AS r (query_id, run_id)
),
calls AS (
    SELECT
        c.query_id, c.run_id, c.model, c.provider, c.service_tier, c.success,
        c.prompt_tokens, c.completion_tokens, c.cached_tokens, c.cache_write_tokens,
        c.total_cost, c.original_cost, c.time_to_first_token_ms, c.duration_ms,
        c.iteration IS NOT NULL AS numbered,
        -- include: fragments/iteration_number.sql AS iteration,
        CASE WHEN c.total_cost IS NOT NULL THEN coalesce(c.prompt_tokens, 0) END::double precision AS p,
        CASE WHEN c.total_cost IS NOT NULL THEN coalesce(c.cached_tokens, 0) END::double precision AS h,
        CASE WHEN c.total_cost IS NOT NULL THEN coalesce(c.cache_write_tokens, 0) END::double precision AS w,
        CASE WHEN c.total_cost IS NOT NULL THEN coalesce(c.completion_tokens, 0) END::double precision AS o,
        coalesce(c.prompt_token_price, 0) / 1000 AS prompt_price,
        coalesce(c.cached_token_price, c.prompt_token_price, 0) / 1000 AS cached_price,
        coalesce(c.cache_write_token_price, c.prompt_token_price, 0) / 1000 AS write_price,
        coalesce(c.completion_token_price, 0) / 1000 AS completion_price
    FROM llm_interactions AS c
    JOIN wanted AS r ON r.query_id = c.query_id AND r.run_id = c.run_id
    WHERE -- include: fragments/call_time_bounds.sql
    WINDOW run AS (PARTITION BY c.query_id, c.run_id)
)
SELECT
    query_id, run_id, iteration::bigint AS iteration,
    bool_or(numbered) AS numbered,
    count(*) AS calls,
    count(*) FILTER (WHERE NOT success) AS failed,
    count(*) FILTER (WHERE total_cost IS NULL AND prompt_tokens IS NOT NULL) AS unpriced,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
    coalesce(sum(cache_write_tokens), 0)::bigint AS cache_write_tokens,
    (sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL))::bigint AS reported_prompt_tokens,
    (sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL))::bigint AS cached_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    coalesce(sum(time_to_first_token_ms) FILTER (WHERE success), 0) AS ttft_ms,
    count(time_to_first_token_ms) FILTER (WHERE success) AS ttft_calls,
    coalesce(sum(duration_ms) FILTER (WHERE success), 0) AS duration_ms,
    count(duration_ms) FILTER (WHERE success) AS duration_calls,
    array_agg(DISTINCT model ORDER BY model) AS models,
    array_agg(DISTINCT coalesce(provider, '') ORDER BY coalesce(provider, '')) AS providers,
    array_agg(DISTINCT coalesce(service_tier, '') ORDER BY coalesce(service_tier, '')) AS tiers,
    count(total_cost) AS priced_calls,
    coalesce(sum(p), 0) AS priced_prompt,
    coalesce(sum(h), 0) AS priced_cached,
    coalesce(sum(w), 0) AS priced_written,
    coalesce(sum(o), 0) AS priced_completion,
    coalesce(sum(p * prompt_price), 0) AS prompt_at_prompt,
    coalesce(sum(p * cached_price), 0) AS prompt_at_cached,
    coalesce(sum(p * write_price), 0) AS prompt_at_write,
    coalesce(sum((p - h - w) * prompt_price), 0) AS cost_of_uncached,
    coalesce(sum(h * cached_price), 0) AS cost_of_cached,
    coalesce(sum(w * write_price), 0) AS cost_of_written,
    coalesce(sum(o * completion_price), 0) AS cost_of_completion
FROM calls
GROUP BY query_id, run_id, iteration
ORDER BY query_id, run_id, iteration;

-- evolution: how the cache hit rate went over the iterations of one run, from its calls; also of a run in progress.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ; first_call, last_call TIMESTAMPTZ: as run_bounds gives them, NULL for
--             no bound.
-- Result:     a row an iteration, in order: iteration, prompt_tokens, cached_tokens (NULL where no call reported), total_cost
--             (USD), cache_hit_rate: 0-1. Calls without an iteration are numbered in order of time, after the others.
WITH calls AS (
    SELECT
        prompt_tokens, cached_tokens, total_cost,
        coalesce(
            iteration,
            coalesce(max(iteration) OVER (), 0)
                + count(*) FILTER (WHERE iteration IS NULL) OVER (ORDER BY time, interaction_id)
        ) AS iteration
    FROM llm_interactions
    WHERE query_id = %(query_id)s AND run_id = %(run_id)s
      AND time >= coalesce(%(first_call)s::timestamptz, '-infinity')
      AND time <= coalesce(%(last_call)s::timestamptz, 'infinity')
)
SELECT
    iteration,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    sum(cached_tokens)::bigint AS cached_tokens,
    sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL)::double precision
        / nullif(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0) AS cache_hit_rate,
    sum(total_cost) AS total_cost
FROM calls
GROUP BY iteration
ORDER BY iteration;

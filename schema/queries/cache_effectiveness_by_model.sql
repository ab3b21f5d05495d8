-- cache_effectiveness_by_model: how well the cache worked, by model.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound.
-- Result:     a row a model, most prompt tokens first. avg_cache_hit_rate: 0-1, weighted by tokens over the calls that
--             reported, NULL when none did. *_cost, cost_savings: USD over the priced calls.
SELECT
    model,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
    coalesce(sum(uncached_prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0)::bigint AS total_uncached_tokens,
    sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL)::double precision
        / nullif(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0) AS avg_cache_hit_rate,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(original_cost - total_cost) AS cost_savings,
    avg(total_cost) AS avg_cost_per_interaction,
    avg(duration_ms) AS avg_duration_ms,
    avg(time_to_first_token_ms) AS avg_time_to_first_token_ms
FROM llm_interactions
WHERE (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
GROUP BY model
ORDER BY total_prompt_tokens DESC, model;

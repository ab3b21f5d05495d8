-- usage_breakdown: what was used in a range of time: in all, by bucket, and by provider and model.
-- Parameters: since, until TIMESTAMPTZ: whole hours with since <= bucket < until; NULL for no bound. unit TEXT: hour, day, week or month.
--             model, provider TEXT: only theirs, NULL for all.
-- Result:     one row of kind total, a row a bucket (its beginning, UTC) and a row a provider and model.
--             cache_hit_rate: 0-1 over the calls that reported. *_cost, cost_savings: USD over the priced calls. *_ms: ms.
-- Reads cache_usage_hourly. Without a bound it reads the raw table where that is a view.
WITH parts AS (
    SELECT date_trunc(%(unit)s, bucket, 'UTC') AS part_bucket, *
    FROM cache_usage_hourly
    WHERE (%(since)s::timestamptz IS NULL OR bucket >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR bucket < %(until)s::timestamptz)
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
)
SELECT
    CASE WHEN grouping(part_bucket) = 0 THEN 'bucket' WHEN grouping(model) = 0 THEN 'model' ELSE 'total' END AS kind,
    part_bucket AS bucket, provider, model,
    coalesce(sum(total_interactions), 0)::bigint AS total_interactions,
    coalesce(sum(interactions_with_cache), 0)::bigint AS interactions_with_cache,
    coalesce(sum(interactions_without_cache), 0)::bigint AS interactions_without_cache,
    coalesce(sum(interactions_not_reported), 0)::bigint AS interactions_not_reported,
    coalesce(sum(failed_interactions), 0)::bigint AS failed_interactions,
    coalesce(sum(unpriced_interactions), 0)::bigint AS unpriced_interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
    coalesce(sum(uncached_prompt_tokens), 0)::bigint AS total_uncached_tokens,
    coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
    sum(cached_tokens)::double precision / nullif(sum(reported_prompt_tokens), 0)::double precision AS cache_hit_rate,
    sum(total_cost) AS total_cost,
    sum(original_cost) AS original_cost,
    sum(original_cost) - sum(compared_cost) AS cost_savings,
    sum(duration_ms) / nullif(sum(timed_interactions), 0)::double precision AS avg_duration_ms,
    sum(time_to_first_token_ms) / nullif(sum(streamed_interactions), 0)::double precision AS avg_time_to_first_token_ms
FROM parts
GROUP BY GROUPING SETS ((), (part_bucket), (provider, model))
ORDER BY kind, bucket, total_prompt_tokens DESC, provider, model;

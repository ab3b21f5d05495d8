-- usage_breakdown: what was used in a range of time: in all, by bucket, and by provider and model.
-- Parameters: since, until TIMESTAMPTZ: since <= bucket < until, NULL for no bound; whole hours, whole minutes where unit
--             is minute. unit TEXT: minute, hour, day, week or month. model, provider TEXT: only theirs, NULL for all.
-- Result:     one row of kind total, a row of kind bucket a bucket (its beginning, UTC) and a row of kind model a provider
--             and model; a row of kind choice a provider and model of the range, chosen or not, whose figures are NULL.
--             cache_hit_rate: 0-1 over the calls that reported. *_cost, cost_savings: USD over the priced calls. *_ms: ms.
-- Reads cache_usage_hourly; for minutes the calls themselves, served by idx_llm_time. Without a bound it reads the raw
-- table where the former is a view. What is grouped by is an expression that an index has, so that PostgreSQL knows how
-- few groups there will be: it would sort all calls on disk otherwise.
WITH parts AS MATERIALIZED (
    SELECT
        date_trunc(%(unit)s::text, bucket, 'UTC') AS bucket, provider, model,
        sum(total_interactions) AS total_interactions, sum(interactions_with_cache) AS interactions_with_cache,
        sum(interactions_without_cache) AS interactions_without_cache,
        sum(interactions_not_reported) AS interactions_not_reported, sum(failed_interactions) AS failed_interactions,
        sum(unpriced_interactions) AS unpriced_interactions, sum(prompt_tokens) AS prompt_tokens,
        sum(reported_prompt_tokens) AS reported_prompt_tokens, sum(completion_tokens) AS completion_tokens,
        sum(cached_tokens) AS cached_tokens, sum(rated_cached_tokens) AS rated_cached_tokens,
        sum(reported_uncached_tokens) AS reported_uncached_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(total_cost) AS total_cost, sum(original_cost) AS original_cost, sum(compared_cost) AS compared_cost,
        sum(timed_interactions) AS timed_interactions, sum(duration_ms) AS duration_ms,
        sum(streamed_interactions) AS streamed_interactions, sum(time_to_first_token_ms) AS time_to_first_token_ms
    FROM cache_usage_hourly
    WHERE %(unit)s::text <> 'minute'
      AND (%(since)s::timestamptz IS NULL OR bucket >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR bucket < %(until)s::timestamptz)
    GROUP BY 1, 2, 3  -- here already: by Citus on the shards
    UNION ALL
    SELECT
        date_trunc('minute', time, 'UTC') AS bucket, provider, model,
        count(*) AS total_interactions,
        count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
        count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
        count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
        count(*) FILTER (WHERE NOT success) AS failed_interactions,
        count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
        sum(prompt_tokens::bigint) AS prompt_tokens,
        sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
        sum(completion_tokens::bigint) AS completion_tokens,
        sum(cached_tokens::bigint) AS cached_tokens,
        sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL) AS rated_cached_tokens,
        sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_uncached_tokens,
        sum(cache_write_tokens::bigint) AS cache_write_tokens,
        sum(total_cost) AS total_cost,
        sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
        sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
        count(duration_ms) AS timed_interactions,
        sum(duration_ms) AS duration_ms,
        count(time_to_first_token_ms) AS streamed_interactions,
        sum(time_to_first_token_ms) AS time_to_first_token_ms
    FROM llm_interactions
    WHERE %(unit)s::text = 'minute'
      AND time >= coalesce(%(since)s::timestamptz, '-infinity')
      AND time < coalesce(%(until)s::timestamptz, 'infinity')
    GROUP BY 1, 2, 3
),

sums AS (
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
        coalesce(sum(reported_uncached_tokens), 0)::bigint AS total_uncached_tokens,
        coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
        sum(rated_cached_tokens)::double precision / nullif(sum(reported_prompt_tokens), 0)::double precision
            AS cache_hit_rate,
        sum(total_cost) AS total_cost,
        sum(original_cost) AS original_cost,
        sum(original_cost) - sum(compared_cost) AS cost_savings,
        sum(duration_ms) / nullif(sum(timed_interactions), 0)::double precision AS avg_duration_ms,
        sum(time_to_first_token_ms) / nullif(sum(streamed_interactions), 0)::double precision
            AS avg_time_to_first_token_ms
    FROM (
        SELECT *, date_trunc(%(unit)s::text, bucket, 'UTC') AS part_bucket
        FROM parts
        WHERE (%(model)s::text IS NULL OR model = %(model)s::text)
          AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    ) AS chosen
    GROUP BY GROUPING SETS ((), (part_bucket), (provider, model))
)

SELECT * FROM sums
UNION ALL
SELECT DISTINCT
    'choice' AS kind, NULL::timestamptz AS bucket, provider, model, NULL::bigint AS total_interactions,
    NULL::bigint AS interactions_with_cache, NULL::bigint AS interactions_without_cache,
    NULL::bigint AS interactions_not_reported, NULL::bigint AS failed_interactions, NULL::bigint AS unpriced_interactions,
    NULL::bigint AS total_prompt_tokens, NULL::bigint AS total_completion_tokens, NULL::bigint AS total_cached_tokens,
    NULL::bigint AS total_uncached_tokens, NULL::bigint AS total_cache_write_tokens,
    NULL::double precision AS cache_hit_rate, NULL::double precision AS total_cost,
    NULL::double precision AS original_cost, NULL::double precision AS cost_savings,
    NULL::double precision AS avg_duration_ms, NULL::double precision AS avg_time_to_first_token_ms
FROM parts
ORDER BY kind, bucket, total_prompt_tokens DESC, provider, model;

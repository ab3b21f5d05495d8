-- usage_over_time: calls, tokens, cost and hit rate by hour, day, week or month (of UTC).
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; NULL for no bound. first_hour, last_hour
--             TIMESTAMPTZ: the whole hours between them are first_hour <= hour < last_hour, NULL for no bound; they are
--             read from cache_usage_hourly, the parts of hours before and after from the calls. Where there is no whole
--             hour, both are until.
--             unit TEXT: hour, day, week or month. model TEXT: only this model, NULL for all.
-- Result:     a row a bucket in which there were calls, oldest first: bucket TIMESTAMPTZ, its beginning. cache_hit_rate:
--             0-1, weighted by tokens over the calls that reported. *_cost, cost_savings: USD over the priced calls.
--             Reads cache_usage_hourly. Without a bound it reads the raw table where that is a view.
-- Whole numbers are summed as BIGINT: the state of a sum of NUMERIC is large, and there is one for each hour.
WITH parts AS (
    SELECT
        bucket, sum(total_interactions)::bigint AS total_interactions,
        sum(interactions_with_cache)::bigint AS interactions_with_cache,
        sum(interactions_without_cache)::bigint AS interactions_without_cache,
        sum(interactions_not_reported)::bigint AS interactions_not_reported,
        sum(failed_interactions)::bigint AS failed_interactions,
        sum(unpriced_interactions)::bigint AS unpriced_interactions, sum(prompt_tokens)::bigint AS prompt_tokens,
        sum(reported_prompt_tokens)::bigint AS reported_prompt_tokens,
        sum(completion_tokens)::bigint AS completion_tokens, sum(cached_tokens)::bigint AS cached_tokens,
        sum(total_cost) AS total_cost, sum(original_cost) AS original_cost, sum(compared_cost) AS compared_cost,
        sum(timed_interactions)::bigint AS timed_interactions, sum(duration_ms) AS duration_ms,
        sum(streamed_interactions)::bigint AS streamed_interactions,
        sum(time_to_first_token_ms) AS time_to_first_token_ms, sum(priced_interactions)::bigint AS priced_interactions,
        sum(rated_cached_tokens)::bigint AS rated_cached_tokens,
        sum(reported_uncached_tokens)::bigint AS reported_uncached_tokens
    FROM cache_usage_hourly
    -- Not coalesce: a bound that is not there costs a call of the hour in progress a third of its time.
    WHERE (%(first_hour)s::timestamptz IS NULL OR bucket >= %(first_hour)s::timestamptz)
      AND (%(last_hour)s::timestamptz IS NULL OR bucket < %(last_hour)s::timestamptz)
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
    GROUP BY 1  -- here already: by Citus on the shards
    UNION ALL
    SELECT
        date_bin('1 hour', time, 'epoch') AS bucket,  -- date_trunc looks up the zone, for each call
        count(*) AS total_interactions,
        count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
        count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
        count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
        count(*) FILTER (WHERE NOT success) AS failed_interactions,
        count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
        sum(prompt_tokens::bigint)::bigint AS prompt_tokens,
        (sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL))::bigint AS reported_prompt_tokens,
        sum(completion_tokens::bigint)::bigint AS completion_tokens,
        sum(cached_tokens::bigint)::bigint AS cached_tokens,
        sum(total_cost) AS total_cost,
        sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
        sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
        count(duration_ms) AS timed_interactions,
        sum(duration_ms) AS duration_ms,
        count(time_to_first_token_ms) AS streamed_interactions,
        sum(time_to_first_token_ms) AS time_to_first_token_ms,
        count(total_cost) AS priced_interactions,
        (sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL))::bigint AS rated_cached_tokens,
        (sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL))::bigint AS reported_uncached_tokens
    FROM llm_interactions
    WHERE (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (
          (
              time >= coalesce(%(since)s::timestamptz, '-infinity')
              AND time < coalesce(%(first_hour)s::timestamptz, '-infinity')
          ) OR (
              time >= coalesce(%(last_hour)s::timestamptz, 'infinity')
              AND time < coalesce(%(until)s::timestamptz, 'infinity')
          )
      )
      -- The same once more, without OR: TimescaleDB then does not even plan for the days before.
      AND time >= CASE
          WHEN %(since)s::timestamptz < %(first_hour)s::timestamptz THEN %(since)s::timestamptz
          ELSE coalesce(%(last_hour)s::timestamptz, 'infinity')
      END
      AND time < coalesce(%(until)s::timestamptz, 'infinity')
    GROUP BY 1
)
SELECT
    date_trunc(%(unit)s, bucket, 'UTC') AS bucket,
    sum(total_interactions)::bigint AS total_interactions,
    sum(interactions_with_cache)::bigint AS interactions_with_cache,
    sum(interactions_without_cache)::bigint AS interactions_without_cache,
    sum(interactions_not_reported)::bigint AS interactions_not_reported,
    sum(failed_interactions)::bigint AS failed_interactions,
    sum(unpriced_interactions)::bigint AS unpriced_interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
    coalesce(sum(reported_uncached_tokens), 0)::bigint AS total_uncached_tokens,
    sum(rated_cached_tokens)::double precision / nullif(sum(reported_prompt_tokens), 0)::double precision
        AS cache_hit_rate,
    sum(total_cost) AS total_cost,
    sum(original_cost) AS original_cost,
    sum(original_cost) - sum(compared_cost) AS cost_savings,
    sum(total_cost) / nullif(sum(priced_interactions), 0)::double precision AS avg_cost_per_interaction,
    sum(duration_ms) / nullif(sum(timed_interactions), 0)::double precision AS avg_duration_ms,
    sum(time_to_first_token_ms) / nullif(sum(streamed_interactions), 0)::double precision
        AS avg_time_to_first_token_ms
FROM parts
GROUP BY 1
ORDER BY 1;

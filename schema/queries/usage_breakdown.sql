-- usage_breakdown: Return the usage of a time range in total, by bucket, and by provider and model.
-- Parameters: since, until TIMESTAMPTZ: since <= bucket < until, NULL for no bound; whole hours, or whole minutes if
--             unit is minute. unit TEXT: minute, hour, day, week or month; time_zone TEXT: of buckets. from_calls
--             BOOLEAN: read the calls, as for minutes; needed to filter by query or tags. model, provider, query_id
--             TEXT, tags JSONB: only calls with these; NULL for all.
-- Result:     rows by kind. total: one row. bucket: one row per bucket, with its start. model: one row per
--             provider and model. choice: one row per provider and model of the range, also of those that the filters by
--             model and provider leave out, with NULL figures. cache_hit_rate: 0-1 over the calls that reported. *_cost,
--             cost_savings: USD over the priced calls. *_ms: milliseconds.
-- Reads cache_usage_hourly, or the calls, served by idx_llm_time or the index of queries or tags. On Citus, without a
-- bound, it reads the raw table; the view groups by an expression that has an index there, so that PostgreSQL knows the
-- number of groups and does not sort all calls on disk.
WITH parts AS MATERIALIZED (
    SELECT
        date_trunc(%(unit)s::text, bucket, %(time_zone)s::text) AS bucket, provider, model,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE NOT %(from_calls)s::boolean
      AND (%(since)s::timestamptz IS NULL OR bucket >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR bucket < %(until)s::timestamptz)
    GROUP BY 1, 2, 3  -- so that Citus aggregates on the shards
    UNION ALL
    SELECT
        date_trunc('minute', time, 'UTC') AS bucket, provider, model,
        -- include: fragments/usage_of_calls.sql
    FROM llm_interactions
    WHERE %(from_calls)s::boolean
      AND time >= coalesce(%(since)s::timestamptz, '-infinity')
      AND time < coalesce(%(until)s::timestamptz, 'infinity')
      AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND (%(tags)s::jsonb IS NULL OR tags @> %(tags)s::jsonb)
    GROUP BY 1, 2, 3
),

sums AS (
    SELECT
        CASE WHEN grouping(part_bucket) = 0 THEN 'bucket' WHEN grouping(model) = 0 THEN 'model' ELSE 'total' END AS kind,
        part_bucket AS bucket, provider, model,
        -- include: fragments/usage_totals.sql,
        coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
        -- include: fragments/usage_hit_rate.sql AS cache_hit_rate,
        -- include: fragments/usage_costs.sql,
        -- include: fragments/usage_latencies.sql
    FROM (
        SELECT *, date_trunc(%(unit)s::text, bucket, %(time_zone)s::text) AS part_bucket
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

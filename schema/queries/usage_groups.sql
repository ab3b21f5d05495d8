-- usage_groups: Return calls, tokens, cost and hit rate by any of: time, model, provider, query, recursion depth, call
--             site, tags of the call, metadata of the run.
-- Parameters: by_model, by_provider, by_query, by_depth, by_call_site BOOLEAN: whether to group by it. unit TEXT: hour,
--             day, week or month, NULL for no grouping by time; time_zone TEXT: of days, weeks and months. tag_1 to
--             tag_3 TEXT: names of tags, key_1 to key_3 TEXT: paths of metadata keys, with dots; NULL for none. They
--             are parameters of their own because a query per call takes ten times as long. source TEXT: hours, to read
--             cache_usage_hourly, which has times, models and providers; or calls. since, until, first_hour, last_hour
--             TIMESTAMPTZ: as in cache_effectiveness_by_model. model, provider, query_id TEXT, tags JSONB: only calls
--             with these; NULL for any.
-- Result:     one row per group, oldest first, then the largest: bucket TIMESTAMPTZ, model, provider, query_id TEXT,
--             current_depth INTEGER, call_site, tag_1 to tag_3, key_1 to key_3 TEXT: NULL where not grouped by it.
--             cache_hit_rate: 0-1 over the calls that reported. *_cost, cost_savings: USD over the priced calls. *_ms:
--             milliseconds.
-- With source calls, without a bound, it reads the raw table. Tags and queries have an index.
WITH parts AS (
    SELECT
        bucket,
        CASE WHEN %(by_model)s::boolean THEN model END AS model,
        CASE WHEN %(by_provider)s::boolean THEN provider END AS provider,
        NULL::text AS query_id, NULL::integer AS current_depth, NULL::text AS call_site,
        NULL::text AS tag_1, NULL::text AS tag_2, NULL::text AS tag_3,
        NULL::text AS key_1, NULL::text AS key_2, NULL::text AS key_3,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE %(source)s::text = 'hours'
      AND -- include: fragments/whole_hours.sql
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT
        date_bin('1 hour', time, 'epoch') AS bucket,  -- date_trunc would look up the time zone for each call
        CASE WHEN %(by_model)s::boolean THEN model END AS model,
        CASE WHEN %(by_provider)s::boolean THEN provider END AS provider,
        NULL::text, NULL::integer, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::text,
        -- include: fragments/usage_of_calls.sql
    FROM llm_interactions
    WHERE %(source)s::text = 'hours'
      AND -- include: fragments/partial_hours.sql
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT
        date_bin('15 minutes', time, 'epoch') AS bucket,  -- every time zone is a multiple of it away from UTC
        CASE WHEN %(by_model)s::boolean THEN model END AS model,
        CASE WHEN %(by_provider)s::boolean THEN provider END AS provider,
        CASE WHEN %(by_query)s::boolean THEN query_id END AS query_id,
        CASE WHEN %(by_depth)s::boolean THEN current_depth END AS current_depth,
        CASE WHEN %(by_call_site)s::boolean THEN call_site END AS call_site,
        tag_1, tag_2, tag_3, key_1, key_2, key_3,
        -- include: fragments/usage_of_calls.sql
    FROM (
        SELECT
            c.*,
            c.tags ->> %(tag_1)s::text AS tag_1, c.tags ->> %(tag_2)s::text AS tag_2, c.tags ->> %(tag_3)s::text AS tag_3,
            r.metadata #>> string_to_array(%(key_1)s::text, '.') AS key_1,
            r.metadata #>> string_to_array(%(key_2)s::text, '.') AS key_2,
            r.metadata #>> string_to_array(%(key_3)s::text, '.') AS key_3
        FROM llm_interactions AS c
        LEFT JOIN query_run_summaries AS r
          ON %(key_1)s::text IS NOT NULL AND r.query_id = c.query_id AND r.run_id = c.run_id
        WHERE %(source)s::text = 'calls'
          AND (%(since)s::timestamptz IS NULL OR c.time >= %(since)s::timestamptz)
          AND (%(until)s::timestamptz IS NULL OR c.time < %(until)s::timestamptz)
          AND (%(model)s::text IS NULL OR c.model = %(model)s::text)
          AND (%(provider)s::text IS NULL OR c.provider = %(provider)s::text)
          AND (%(query_id)s::text IS NULL OR c.query_id = %(query_id)s::text)
          AND (%(tags)s::jsonb IS NULL OR c.tags @> %(tags)s::jsonb)
    ) AS chosen
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
)
SELECT
    CASE WHEN %(unit)s::text IS NOT NULL THEN date_trunc(%(unit)s::text, bucket, %(time_zone)s::text) END AS bucket,
    model, provider, query_id, current_depth, call_site, tag_1, tag_2, tag_3, key_1, key_2, key_3,
    -- include: fragments/usage_totals.sql,
    coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
    -- include: fragments/usage_hit_rate.sql AS cache_hit_rate,
    -- include: fragments/usage_costs.sql,
    -- include: fragments/usage_latencies.sql
FROM parts
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
ORDER BY 1, total_cost DESC NULLS LAST, total_prompt_tokens DESC, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;

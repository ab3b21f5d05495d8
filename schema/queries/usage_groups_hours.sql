-- usage_groups_hours: Return calls, tokens, cost and hit rate by time, model and provider, from the hourly sums.
-- Parameters: by_model, by_provider BOOLEAN: whether to group by it. unit TEXT: hour, day, week or month, NULL for no
--             grouping by time; time_zone TEXT: of days, weeks and months. since, until, first_hour, last_hour
--             TIMESTAMPTZ: as in cache_effectiveness_by_model. model, provider TEXT: only calls with these; NULL for any.
-- Result:     one row per group, oldest first, then the largest: bucket TIMESTAMPTZ, model, provider, query_id TEXT,
--             current_depth INTEGER, call_site, tag_1 to tag_3, key_1 to key_3 TEXT: NULL where not grouped by it.
--             cache_hit_rate: 0-1 over the calls that reported. *_cost, cost_savings: USD over the priced calls. *_ms:
--             milliseconds.
-- On Citus, without a bound, it reads the raw table.
WITH parts AS (
    SELECT
        CASE WHEN %(unit)s::text IS NOT NULL THEN date_trunc(%(unit)s::text, bucket, %(time_zone)s::text) END AS bucket,
        CASE WHEN %(by_model)s::boolean THEN model END AS model,
        CASE WHEN %(by_provider)s::boolean THEN provider END AS provider,
        NULL::text AS query_id, NULL::integer AS current_depth, NULL::text AS call_site,
        NULL::text AS tag_1, NULL::text AS tag_2, NULL::text AS tag_3,
        NULL::text AS key_1, NULL::text AS key_2, NULL::text AS key_3,
        -- include: fragments/usage_of_hours.sql
    FROM cache_usage_hourly
    WHERE -- include: fragments/whole_hours.sql
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
    FROM -- include: fragments/calls_of_partial_hours.sql
    WHERE (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
    GROUP BY 1, 2, 3
)
-- include: fragments/usage_groups_rows.sql;

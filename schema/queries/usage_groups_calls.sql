-- usage_groups_calls: Return calls, tokens, cost and hit rate by any of: time, model, provider, query, recursion depth, call
--             site, tags of the call, metadata of the run.
-- Parameters: by_model, by_provider, by_query, by_depth, by_call_site BOOLEAN: whether to group by it. unit TEXT: hour,
--             day, week or month, NULL for no grouping by time; time_zone TEXT: of days, weeks and months. tag_1 to
--             tag_3 TEXT: names of tags, key_1 to key_3 TEXT: paths of metadata keys, with dots; NULL for none. They
--             are parameters of their own because a subquery for each call takes ten times as long. since, until TIMESTAMPTZ: calls with
--             since <= time < until; model, provider, query_id TEXT, tags JSONB: only calls with these; NULL for any.
-- Result:     as in usage_groups_hours.
-- Without a bound it reads the raw table. Tags and queries have an index. PostgreSQL removes the join if no metadata is
-- read; a constant condition in an outer join would not work on Citus.
WITH parts AS (
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
            CASE WHEN %(key_1)s::text IS NOT NULL THEN r.metadata #>> string_to_array(%(key_1)s::text, '.') END AS key_1,
            CASE WHEN %(key_2)s::text IS NOT NULL THEN r.metadata #>> string_to_array(%(key_2)s::text, '.') END AS key_2,
            CASE WHEN %(key_3)s::text IS NOT NULL THEN r.metadata #>> string_to_array(%(key_3)s::text, '.') END AS key_3
        FROM llm_interactions AS c
        LEFT JOIN query_run_summaries AS r
          ON r.query_id = c.query_id AND r.run_id = c.run_id
        WHERE (%(since)s::timestamptz IS NULL OR c.time >= %(since)s::timestamptz)
          AND (%(until)s::timestamptz IS NULL OR c.time < %(until)s::timestamptz)
          AND (%(model)s::text IS NULL OR c.model = %(model)s::text)
          AND (%(provider)s::text IS NULL OR c.provider = %(provider)s::text)
          AND (%(query_id)s::text IS NULL OR c.query_id = %(query_id)s::text)
          AND (%(tags)s::jsonb IS NULL OR c.tags @> %(tags)s::jsonb)
    ) AS chosen
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
)
-- include: fragments/usage_groups_rows.sql;

-- usage_groups_calls: Return calls, tokens, cost and hit rate by any of: time, model, provider, query, recursion depth, call
--             site, tags of the call, metadata of the run.
-- Parameters: by_model, by_provider, by_query, by_depth, by_call_site BOOLEAN: whether to group by it. unit TEXT: hour,
--             day, week or month, NULL for no grouping by time; time_zone TEXT: of days, weeks and months. tag_1 to
--             tag_3 TEXT: names of tags, key_1 to key_3 TEXT: paths of metadata keys, with dots; NULL for none. They
--             are separate parameters because a subquery for each call takes ten times as long. since, until
--             TIMESTAMPTZ: calls with since <= time < until; model, provider, query_id TEXT, tags JSONB: only calls with
--             these; NULL for any.
-- Result:     as in usage_groups_hours.
-- Without a bound it reads the raw table. Tags and queries have an index. PostgreSQL removes the join if no metadata is
-- read; a constant condition in an outer join would not work on Citus.
WITH parts AS (
    SELECT
        CASE WHEN %(unit)s::text IS NOT NULL THEN bucket END AS bucket,
        CASE WHEN %(by_model)s::boolean THEN model END AS model,
        CASE WHEN %(by_provider)s::boolean THEN provider END AS provider,
        CASE WHEN %(by_query)s::boolean THEN query_id END AS query_id,
        CASE WHEN %(by_depth)s::boolean THEN current_depth END AS current_depth,
        CASE WHEN %(by_call_site)s::boolean THEN call_site END AS call_site,
        CASE WHEN %(tag_1)s::text IS NOT NULL THEN tag_1 END AS tag_1,
        CASE WHEN %(tag_2)s::text IS NOT NULL THEN tag_2 END AS tag_2,
        CASE WHEN %(tag_3)s::text IS NOT NULL THEN tag_3 END AS tag_3,
        CASE WHEN %(key_1)s::text IS NOT NULL THEN key_1 END AS key_1,
        CASE WHEN %(key_2)s::text IS NOT NULL THEN key_2 END AS key_2,
        CASE WHEN %(key_3)s::text IS NOT NULL THEN key_3 END AS key_3,
        -- include: fragments/usage_of_calls.sql
    FROM (
        SELECT
            c.query_id, c.model, c.provider, c.current_depth, c.call_site,
            -- Every time zone is a multiple of 15 minutes away from UTC, which is the time zone of the session.
            CASE
                WHEN %(time_zone)s::text = 'UTC' THEN date_trunc(%(unit)s::text, c.time)
                ELSE date_bin('15 minutes', c.time, 'epoch')
            END AS bucket,
            c.tags ->> %(tag_1)s::text AS tag_1, c.tags ->> %(tag_2)s::text AS tag_2, c.tags ->> %(tag_3)s::text AS tag_3,
            r.metadata #>> string_to_array(%(key_1)s::text, '.') AS key_1,
            r.metadata #>> string_to_array(%(key_2)s::text, '.') AS key_2,
            r.metadata #>> string_to_array(%(key_3)s::text, '.') AS key_3,
            -- include: fragments/usage_columns.sql
        FROM llm_interactions AS c
        LEFT JOIN query_run_summaries AS r
          ON r.query_id = c.query_id AND r.run_id = c.run_id
        WHERE (%(since)s::timestamptz IS NULL OR c.time >= %(since)s::timestamptz)
          AND (%(until)s::timestamptz IS NULL OR c.time < %(until)s::timestamptz)
          AND (%(model)s::text IS NULL OR c.model = %(model)s::text)
          AND (%(provider)s::text IS NULL OR c.provider = %(provider)s::text)
          AND (%(query_id)s::text IS NULL OR c.query_id = %(query_id)s::text)
          AND (%(tags)s::jsonb IS NULL OR c.tags @> %(tags)s::jsonb)
        -- The planner would expect a group for each moment of a call, and sort the calls on disk. Of the columns of a
        -- UNION ALL it knows nothing, and expects few groups. The second branch has no rows; Citus rejects WHERE FALSE.
        UNION ALL
        SELECT
            c.query_id, c.model, c.provider, c.current_depth, c.call_site,
            c.time AS bucket,
            NULL AS tag_1, NULL AS tag_2, NULL AS tag_3, NULL AS key_1, NULL AS key_2, NULL AS key_3,
            -- include: fragments/usage_columns.sql
        FROM llm_interactions AS c
        WHERE c.time > 'infinity'
    ) AS chosen
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
)
-- include: fragments/usage_groups_rows.sql;

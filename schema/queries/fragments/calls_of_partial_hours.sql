-- calls_of_partial_hours: the calls before and after the whole hours of whole_hours, for FROM.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; first_hour, last_hour TIMESTAMPTZ; NULL for
--             no bound.
-- Two branches instead of OR: while planning, TimescaleDB leaves out the chunks of all other days. query_id: Citus needs
-- it to sum on the shards.
(
    SELECT
        c.time, c.query_id, c.model, c.provider,
        -- include: fragments/usage_columns.sql
    FROM llm_interactions AS c
    WHERE c.time >= coalesce(%(since)s::timestamptz, 'infinity')
      AND c.time < coalesce(%(first_hour)s::timestamptz, '-infinity')
    UNION ALL
    SELECT
        c.time, c.query_id, c.model, c.provider,
        -- include: fragments/usage_columns.sql
    FROM llm_interactions AS c
    WHERE c.time >= coalesce(%(last_hour)s::timestamptz, 'infinity')
      AND c.time < coalesce(%(until)s::timestamptz, 'infinity')
) AS partial

-- interactions_page: calls, newest first, a page at a time.
-- Parameters: before_time TIMESTAMPTZ, before_id UUID: time and interaction_id of the last row of the page before; NULL
--             for the first page. model TEXT: only this model, NULL for all. limit BIGINT.
-- Result:     the columns of llm_interactions. A page costs the same however far it is from the first. Served by
--             idx_llm_time; in the columnstore, which is not ordered by time, the times of one day are read.
-- Where the page ends is found first: TimescaleDB reads day by day in the order of the time alone, not of both columns.
WITH edge AS (
    SELECT min(time) AS time
    FROM (
        SELECT time
        FROM llm_interactions
        WHERE -- include: fragments/before_cursor.sql
        ORDER BY time DESC
        LIMIT %(limit)s
    ) AS page
)
SELECT *
FROM llm_interactions
WHERE time >= (SELECT time FROM edge)
  AND -- include: fragments/before_cursor.sql
ORDER BY time DESC, interaction_id DESC
LIMIT %(limit)s;

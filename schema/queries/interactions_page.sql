-- interactions_page: Return a page of calls, newest first.
-- Parameters: before_time TIMESTAMPTZ, before_id UUID: time and interaction_id of the last row of the previous page;
--             NULL for the first page. model TEXT; NULL for all. limit BIGINT.
-- Result:     the columns of llm_interactions. Every page takes the same time. Served by idx_llm_time; in the
--             columnstore, which is not ordered by time, the times of one day are read.
-- The end of the page is found first, because TimescaleDB reads chunk by chunk only in the order of time alone.
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

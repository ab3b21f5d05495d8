-- reprice_next: Return the end of the next batch of a re-pricing.
-- Parameters: after_time TIMESTAMPTZ, after_id UUID: last call of the previous batch, NULL for none; size BIGINT; and
--             those of fragments/repriceable.sql.
-- Result:     one row: interactions BIGINT, first_time, last_time TIMESTAMPTZ, last_id UUID (NULL if no call is left).
WITH next AS (
    SELECT time, interaction_id
    FROM llm_interactions
    WHERE (%(after_time)s::timestamptz IS NULL OR time >= %(after_time)s::timestamptz)
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, interaction_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
      AND -- include: fragments/repriceable.sql
    ORDER BY time, interaction_id
    LIMIT %(size)s
)
SELECT
    count(*) AS interactions,
    min(time) AS first_time,
    max(time) AS last_time,
    (SELECT interaction_id FROM next ORDER BY time DESC, interaction_id DESC LIMIT 1) AS last_id
FROM next;

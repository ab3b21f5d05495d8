-- reprice_stage: Create a temporary table, dropped at commit, of the calls of a batch that the new prices change, with
--             old and new values; and of those with is_detailed, whose new values reprice_stage_details sets.
-- Parameters: those of fragments/repriceable.sql and fragments/rates.sql; first_time, last_time TIMESTAMPTZ: time range
--             of the batch; after_time TIMESTAMPTZ, after_id UUID: last call of the previous batch, NULL for none;
--             last_id UUID: last call of the batch.
-- Result:     none.
CREATE TEMPORARY TABLE rlm_cachetrack_repriced ON COMMIT DROP AS
WITH calls AS (
    SELECT -- include: fragments/calls_to_reprice.sql
    FROM llm_interactions
    WHERE time >= %(first_time)s::timestamptz AND time <= %(last_time)s::timestamptz
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, interaction_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
      AND (time, interaction_id) <= (%(last_time)s::timestamptz, %(last_id)s::uuid)
      AND -- include: fragments/repriceable.sql
),
-- include: fragments/repriced.sql
SELECT * FROM repriced
WHERE is_detailed OR -- include: fragments/repriced_differs.sql;

-- what_if_detailed: Return a page of the calls of a what-if that have more components than the four prices.
-- Parameters: those of fragments/any_calls.sql and fragments/rates.sql; after_time TIMESTAMPTZ, after_id UUID: last
--             call of the previous page, NULL for none; size BIGINT.
-- Result:     one row per call, in the order of time and interaction_id: the columns of fragments/repriced.sql.
-- Without a bound it reads the raw table.
WITH calls AS (
    SELECT -- include: fragments/calls_to_reprice.sql
    FROM llm_interactions
    WHERE (%(after_time)s::timestamptz IS NULL OR time >= %(after_time)s::timestamptz)
      AND (%(after_time)s::timestamptz IS NULL
           OR (time, interaction_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid))
      AND -- include: fragments/any_calls.sql
      AND prompt_tokens IS NOT NULL
),
-- include: fragments/repriced.sql
SELECT * FROM repriced WHERE is_detailed
ORDER BY time, interaction_id
LIMIT %(size)s;

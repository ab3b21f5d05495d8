-- upgrade_duplicate_calls: Return the number of legacy calls with the same query, run, time and id as another. Reads
--             the raw table, unless a unique index rules duplicates out.
-- Parameters: none.
-- Result:     one row: duplicates BIGINT.
--             The cast to text avoids a bug of TimescaleDB 2.28: it cannot search compressed VARCHARs for NULLs.
SELECT
    CASE
        WHEN EXISTS (
            SELECT 1
            FROM pg_index AS i
            WHERE i.indrelid = to_regclass('llm_interactions') AND i.indisunique AND i.indisvalid
              AND i.indpred IS NULL AND i.indexprs IS NULL
              AND (
                  SELECT bool_or(a.attname = 'interaction_id')
                      AND bool_and(a.attname IN ('query_id', 'run_id', 'time', 'interaction_id'))
                      AND bool_and(a.attnotnull OR a.attname = 'interaction_id')
                  FROM pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
              )
        ) THEN 0
        ELSE (
            SELECT count(*)
            FROM (
                SELECT 1
                FROM llm_interactions
                WHERE interaction_id IS NOT NULL AND time IS NOT NULL
                GROUP BY coalesce(query_id::text, 'adhoc'), coalesce(run_id, time), time, interaction_id
                HAVING count(*) > 1
            ) AS groups
        )
    END AS duplicates;

-- upgrade_zeros: Return the number of legacy calls that report 0 cached tokens. Reads the raw table, or an index on the
--             column.
-- Parameters: none.
-- Result:     one row: zeros BIGINT.
SELECT count(*) AS zeros FROM llm_interactions WHERE cached_tokens = 0;

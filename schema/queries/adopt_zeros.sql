-- adopt_zeros: calls that say that nothing was cached, which may mean that nobody asked. Reads the raw table, or an index of it.
-- Parameters: none.
-- Result:     one row: zeros BIGINT.
SELECT count(*) AS zeros FROM llm_interactions WHERE cached_tokens = 0;

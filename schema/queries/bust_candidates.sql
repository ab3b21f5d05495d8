-- bust_candidates: Return the runs with a call that may have broken a cached prefix. Such a call has a fingerprint, and more
--             than 1,024 tokens of its prompt were not read from the cache.
-- Parameters: those of fragments/any_calls.sql; limit BIGINT: at most this many runs.
-- Result:     query_id, run_id, candidates BIGINT: the number of such calls; newest TIMESTAMPTZ: the time of the last
--             one; the run of the newest first; runs BIGINT: their number without the limit.
--             Served by idx_llm_uncached. In the columnstore it reads the raw table.
SELECT query_id, run_id, count(*) AS candidates, max(time) AS newest, count(*) OVER () AS runs
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
  AND success AND fingerprint IS NOT NULL AND prompt_tokens - cached_tokens > 1024
GROUP BY query_id, run_id
ORDER BY newest DESC, query_id, run_id
LIMIT %(limit)s;

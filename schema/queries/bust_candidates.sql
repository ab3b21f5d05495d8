-- bust_candidates: Return the runs with a call that may have broken a cached prefix: a call with a fingerprint, of whose
--             prompt more than some tokens were not read from the cache.
-- Parameters: those of fragments/any_calls.sql; least_tokens INTEGER; limit BIGINT: at most this many runs.
-- Result:     query_id, run_id, the run of the newest such call first; runs BIGINT: their number without the limit.
--             Served by idx_llm_time. Without a bound it reads the raw table.
SELECT query_id, run_id, count(*) OVER () AS runs
FROM llm_interactions
WHERE -- include: fragments/any_calls.sql
  AND success AND fingerprint IS NOT NULL AND prompt_tokens - cached_tokens > %(least_tokens)s::integer
GROUP BY query_id, run_id
ORDER BY max(time) DESC, query_id, run_id
LIMIT %(limit)s;

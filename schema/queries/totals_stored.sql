-- totals_stored: Return which totals (of batches, eval runs, turns of agent sessions) are stored already, or were replaced
--             by their calls.
-- Parameters: ids TEXT[]: their response ids; times TIMESTAMPTZ[]: their times.
-- Result:     response_id, model: model is NULL if an import stored the calls of a batch.
-- Served by idx_llm_time. In the columnstore it reads the raw table, of these days only.
SELECT response_id, model
FROM llm_interactions
WHERE response_id = ANY(%(ids)s::text[]) AND time = ANY(%(times)s::timestamptz[])
UNION ALL
SELECT metadata ->> 'batch_id', NULL
FROM llm_interactions
WHERE service_tier = 'batch' AND metadata ->> 'batch_id' = ANY(%(ids)s::text[])
  AND time >= (SELECT min(t) FROM unnest(%(times)s::timestamptz[]) AS t)
  -- A batch ends within its completion window of 24 hours; the second day is a margin.
  AND time <= (SELECT max(t) FROM unnest(%(times)s::timestamptz[]) AS t) + INTERVAL '2 days';

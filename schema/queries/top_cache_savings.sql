-- top_cache_savings: Return the runs with the highest cost savings.
-- Parameters: those of fragments/run_page_filters.sql; limit BIGINT.
-- Result:     rows of optimization, highest cost_savings (USD) first; without the runs whose savings are unknown.
-- In the columnstore it reads the raw table if it filters by model, provider or tags: TimescaleDB 2.29 reads a batch of
-- each day instead of searching the calls of each run.
SELECT
    -- include: fragments/optimization_columns.sql
FROM token_cache_optimization AS o
WHERE cost_savings IS NOT NULL
  AND (
      num_nonnulls(
          %(query_id)s::text, %(since)s::timestamptz, %(until)s::timestamptz, %(model)s::text, %(provider)s::text,
          %(tags)s::jsonb
      ) = 0
      OR EXISTS (
          SELECT 1
          FROM query_run_summaries AS s
          WHERE s.query_id = o.query_id AND s.run_id = o.run_id
            AND -- include: fragments/run_page_filters.sql
      )
  )
ORDER BY cost_savings DESC, time DESC
LIMIT %(limit)s;

-- run_latencies: mean and percentiles of the durations of calls, in milliseconds.
-- Needs:  rows of llm_interactions.
avg(duration_ms) AS avg_duration_ms,
percentile_cont(0.50) WITHIN GROUP (ORDER BY duration_ms) AS p50_duration_ms,
percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_duration_ms,
percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_duration_ms

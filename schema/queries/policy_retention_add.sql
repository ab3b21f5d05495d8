-- policy_retention_add: Add a retention policy that drops days whose calls are older than this. TimescaleDB only.
-- Parameters: after INTERVAL.
-- Result:     one row; ignore it. Runs, their optimizations and the hourly sums are kept.
SELECT add_retention_policy('llm_interactions', drop_after => %(after)s::interval);

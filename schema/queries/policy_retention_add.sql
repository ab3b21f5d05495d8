-- policy_retention_add: delete the days of calls that are older than this. TimescaleDB only.
-- Parameters: after INTERVAL.
-- Result:     one row without meaning. Runs, what the cache saved in them, and the sums by hour stay.
SELECT add_retention_policy('llm_interactions', drop_after => %(after)s::interval);

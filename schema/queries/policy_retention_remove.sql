-- policy_retention_remove: Remove the retention policy. TimescaleDB only.
-- Parameters: none.
-- Result:     one row; ignore it.
SELECT remove_retention_policy('llm_interactions', if_exists => TRUE);

-- policy_retention_remove: keep calls for ever. TimescaleDB only.
-- Parameters: none.
-- Result:     one row without meaning.
SELECT remove_retention_policy('llm_interactions', if_exists => TRUE);

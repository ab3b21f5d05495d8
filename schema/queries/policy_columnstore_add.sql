-- policy_columnstore_add: Add a policy that moves calls older than the given age to the columnstore. TimescaleDB only.
-- Parameters: after INTERVAL.
-- Result:     none.
CALL add_columnstore_policy('llm_interactions', after => %(after)s::interval);

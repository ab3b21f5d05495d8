-- policy_columnstore_remove: leave calls in rows from now on; what is in the columnstore stays there. TimescaleDB only.
-- Parameters: none.
-- Result:     none.
CALL remove_columnstore_policy('llm_interactions', if_exists => TRUE);

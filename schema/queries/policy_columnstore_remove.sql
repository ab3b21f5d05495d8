-- policy_columnstore_remove: Remove the columnstore policy; calls that are in the columnstore stay there. TimescaleDB
--             only.
-- Parameters: none.
-- Result:     none.
CALL remove_columnstore_policy('llm_interactions', if_exists => TRUE);

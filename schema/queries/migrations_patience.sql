-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);

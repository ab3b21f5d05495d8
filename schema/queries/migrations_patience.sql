-- migrations_patience: Disable the statement timeouts until the transaction ends; lock_timeout does not change.
-- Parameters: none.
-- Result:     one row; ignore it.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);

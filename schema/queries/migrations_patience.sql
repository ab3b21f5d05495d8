-- migrations_patience: lift the time limits of statements until the transaction ends; lock_timeout stays as set.
-- Parameters: none.
-- Result:     one row, to be ignored.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);

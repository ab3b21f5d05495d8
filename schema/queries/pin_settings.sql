-- pin_settings: Set the settings that our statements depend on, which override those of the server, database and role.
-- Parameters: is_local: for the current transaction only; its statement_timeout is set, too.
-- Result:     one row; ignore it.
-- A pooler in transaction mode may run the next transaction on a connection with other settings: there, each transaction
-- that writes sets its own. An empty search_path leaves no schema to create or find tables in.
-- jit: reads are short, but over many chunks their estimated cost makes PostgreSQL compile them, which takes ten times as
-- long as their execution (1,000,000 calls in 30 days: 190 of 209 ms for a list of runs).
SELECT
    set_config('DateStyle', 'ISO, MDY', %(is_local)s),
    set_config('IntervalStyle', 'postgres', %(is_local)s),
    set_config('TimeZone', 'UTC', %(is_local)s),
    set_config('extra_float_digits', '1', %(is_local)s),
    set_config('standard_conforming_strings', 'on', %(is_local)s),
    set_config(
        'search_path',
        CASE WHEN current_schema() IS NULL THEN 'public' ELSE current_setting('search_path') END,
        %(is_local)s
    ),
    set_config(
        'statement_timeout', CASE WHEN %(is_local)s THEN '0' ELSE current_setting('statement_timeout') END, %(is_local)s
    ),
    set_config('jit', 'off', %(is_local)s);

-- Least privilege: three roles with the rights that the library needs, and no others.
--
--   rlm_cachetrack_owner    owns the tables: migrates, deletes, updates prices, re-prices, sets budgets and policies.
--                           It may log in, because TimescaleDB requires that of the owner of a job.
--   rlm_cachetrack_writer   records calls and reads them; it cannot change or delete a stored call
--   rlm_cachetrack_reader   reads
--
-- Run this file as a superuser, or as a role that may create roles and owns the tables, in the database and with the
-- search_path of the tables:
--   1. before `rlm-cachetrack migrate`, so that the owner may create the tables;
--   2. again after `rlm-cachetrack migrate --db-url postgresql://rlm_cachetrack_owner@…`, and after each new release.
-- Then add your own logins as members:  GRANT rlm_cachetrack_writer TO benchmark_runner;
-- It can be run again at any time.

DO $$
DECLARE
    tables_schema CONSTANT TEXT := quote_ident(current_schema());
    object TEXT;
BEGIN
    IF to_regrole('rlm_cachetrack_owner') IS NULL THEN
        CREATE ROLE rlm_cachetrack_owner LOGIN;
    END IF;
    IF to_regrole('rlm_cachetrack_writer') IS NULL THEN
        CREATE ROLE rlm_cachetrack_writer NOLOGIN;
    END IF;
    IF to_regrole('rlm_cachetrack_reader') IS NULL THEN
        CREATE ROLE rlm_cachetrack_reader NOLOGIN;
    END IF;
    EXECUTE 'GRANT USAGE, CREATE ON SCHEMA ' || tables_schema || ' TO rlm_cachetrack_owner';
    EXECUTE 'GRANT USAGE ON SCHEMA ' || tables_schema || ' TO rlm_cachetrack_writer, rlm_cachetrack_reader';
    -- The idempotent path stages batches in a temporary table.
    EXECUTE 'GRANT TEMPORARY ON DATABASE ' || quote_ident(current_database())
        || ' TO rlm_cachetrack_owner, rlm_cachetrack_writer';

    IF to_regclass('rlm_cachetrack_migrations') IS NULL THEN
        RAISE NOTICE 'The tables do not exist yet: migrate as rlm_cachetrack_owner, then run this file again.';
        RETURN;
    END IF;
    GRANT SELECT, INSERT ON llm_interactions TO rlm_cachetrack_writer;
    GRANT SELECT, INSERT, UPDATE ON query_run_summaries, token_cache_optimization, alert_states TO rlm_cachetrack_writer;
    GRANT SELECT ON llm_interactions, query_run_summaries, token_cache_optimization, alert_states TO rlm_cachetrack_reader;
    -- Every process that connects reads the list of migrations, and every writer the price list. Only the owner sets
    -- budgets, updates prices, re-prices and deletes.
    FOREACH object IN ARRAY ARRAY[
        'rlm_cachetrack_migrations', 'cache_usage_hourly', 'budgets', 'price_lists', 'price_changes'
    ] LOOP
        IF to_regclass(object) IS NOT NULL THEN
            EXECUTE 'GRANT SELECT ON ' || object || ' TO rlm_cachetrack_writer, rlm_cachetrack_reader';
        END IF;
    END LOOP;
    -- Plain PostgreSQL: a writer refreshes the stored hourly sums.
    IF to_regclass('rlm_cachetrack_hourly_sums') IS NOT NULL THEN
        GRANT SELECT, INSERT, DELETE ON rlm_cachetrack_hourly_sums TO rlm_cachetrack_writer;
        GRANT SELECT, DELETE ON rlm_cachetrack_changed_hours TO rlm_cachetrack_writer;
        GRANT SELECT ON rlm_cachetrack_live_sums TO rlm_cachetrack_writer;
    END IF;
    -- TimescaleDB: a writer may request a refresh of late hours from the owner's background job; others may not.
    FOREACH object IN ARRAY ARRAY[
        'rlm_cachetrack_refresh_hours(timestamptz, timestamptz)', 'rlm_cachetrack_hours_are_stale(bigint)'
    ] LOOP
        IF to_regprocedure(object) IS NOT NULL THEN
            EXECUTE 'REVOKE ALL ON FUNCTION ' || object || ' FROM PUBLIC';
            EXECUTE 'GRANT EXECUTE ON FUNCTION ' || object || ' TO rlm_cachetrack_owner, rlm_cachetrack_writer';
        END IF;
    END LOOP;
END
$$;

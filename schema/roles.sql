-- Least privilege: three roles and exactly the rights that the library needs for each.
--
--   rlm_cachetrack_owner    owns the tables: migrates them, deletes, re-prices, sets budgets and policies; may log in, as
--                           TimescaleDB asks of whom jobs run as
--   rlm_cachetrack_writer   records calls (it can read them too, and can change no call that is stored)
--   rlm_cachetrack_reader   reads
--
-- Run it as a superuser, or as a role that may create roles and owns the tables, in the database and with the
-- search_path of the tables:
--   1. once before `rlm-cachetrack migrate`, so that the owner may create the tables;
--   2. again after `rlm-cachetrack migrate --db-url postgresql://rlm_cachetrack_owner@…`, and after each upgrade.
-- Then make your own logins members:  GRANT rlm_cachetrack_writer TO benchmark_runner;
-- Running it again changes nothing that is right already.

DO $$
DECLARE
    place CONSTANT TEXT := quote_ident(current_schema());
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
    EXECUTE 'GRANT USAGE, CREATE ON SCHEMA ' || place || ' TO rlm_cachetrack_owner';
    EXECUTE 'GRANT USAGE ON SCHEMA ' || place || ' TO rlm_cachetrack_writer, rlm_cachetrack_reader';
    -- Batches pass through a temporary table.
    EXECUTE 'GRANT TEMPORARY ON DATABASE ' || quote_ident(current_database())
        || ' TO rlm_cachetrack_owner, rlm_cachetrack_writer';

    IF to_regclass('rlm_cachetrack_migrations') IS NULL THEN
        RAISE NOTICE 'the tables are not there yet: migrate as rlm_cachetrack_owner, then run this file again';
        RETURN;
    END IF;
    GRANT SELECT, INSERT ON llm_interactions TO rlm_cachetrack_writer;
    GRANT SELECT, INSERT, UPDATE ON query_run_summaries, token_cache_optimization TO rlm_cachetrack_writer;
    GRANT SELECT ON llm_interactions, query_run_summaries, token_cache_optimization TO rlm_cachetrack_reader;
    -- Which migrations were applied, looked at by every process that connects; the sums by hour; what may be spent; and
    -- the log of re-pricings. To set a budget, to re-price and to delete is the owner's.
    FOREACH object IN ARRAY ARRAY['rlm_cachetrack_migrations', 'cache_usage_hourly', 'budgets', 'price_changes'] LOOP
        IF to_regclass(object) IS NOT NULL THEN
            EXECUTE 'GRANT SELECT ON ' || object || ' TO rlm_cachetrack_writer, rlm_cachetrack_reader';
        END IF;
    END LOOP;
    -- TimescaleDB: late hours are refreshed by a job of the owner, which the writer may ask for. Nobody else.
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

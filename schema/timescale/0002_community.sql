-- 0002 community: the continuous aggregate cache_usage_hourly, and the columnstore for days older than a week.
-- Why:   a year per model is read from a few thousand rows instead of millions; old calls take a tenth of the space.
-- Lock:  ACCESS EXCLUSIVE on cache_usage_hourly and llm_interactions, for a moment. Background jobs fill the aggregate
--        and convert chunks.
-- Needs: TimescaleDB with its community licence.

-- ---- Sums per hour. Columns: see postgresql/0001.

DROP VIEW cache_usage_hourly;
DROP INDEX IF EXISTS idx_llm_hour;  -- served the view

CREATE MATERIALIZED VIEW cache_usage_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket(INTERVAL '1 hour', time) AS bucket,
    -- include: fragments/hourly_sums.sql
FROM llm_interactions
GROUP BY 1, 2, 3, 4
WITH NO DATA;

-- A chunk of the sums covers a year. TimescaleDB's default is ten chunks of calls: at 20 calls a day, planning 90 of them
-- took three quarters of a query over 900 days.
SELECT set_chunk_time_interval(
    format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass, INTERVAL '1 year'
)
FROM timescaledb_information.continuous_aggregates
WHERE to_regclass(format('%I.%I', view_schema, view_name)) = to_regclass('cache_usage_hourly');

-- Everything older than the current hour is materialized, so that few hours are summed from the calls.
SELECT add_continuous_aggregate_policy(
    'cache_usage_hourly',
    start_offset => NULL,
    end_offset => INTERVAL '10 minutes',
    schedule_interval => INTERVAL '15 minutes'
);

-- The policy refreshes from the oldest hour to the newest. TimescaleDB's default is the newest hours first, but a
-- real-time aggregate treats everything older than its newest materialized hour as materialized: while the first
-- refresh ran, sums lacked calls (1,932 of 200,000 with 2.28.3). Releases without a setting for the order refresh in
-- one batch.
SELECT alter_job(
    j.job_id,
    config => j.config || CASE
        WHEN EXISTS (
            SELECT 1 FROM pg_proc
            WHERE proname = 'add_continuous_aggregate_policy' AND 'refresh_newest_first' = ANY (proargnames)
        ) THEN '{"refresh_newest_first": false}'::jsonb
        ELSE '{"buckets_per_batch": 0}'::jsonb
    END
)
FROM timescaledb_information.jobs AS j
JOIN _timescaledb_catalog.continuous_agg AS a ON a.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::integer
JOIN pg_class AS c ON c.relname = a.user_view_name
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND c.oid = to_regclass('cache_usage_hourly');

-- ---- Retention keeps the hourly sums of the calls that it drops.
-- A refresh of an hour whose calls are gone would delete its sums. Therefore nothing refreshes the hours before the first
-- one of this function: those that the retention policy may have dropped, and those that an earlier, shorter one may
-- have dropped (never_before, kept in the configuration of the refresh policy).

-- Returns the first hour that may be refreshed; NULL if there never was a retention policy.
CREATE FUNCTION rlm_cachetrack_first_refreshed_hour() RETURNS TIMESTAMPTZ
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('hour', greatest(
        max((j.config ->> 'never_before')::timestamptz), now() - max((j.config ->> 'drop_after')::interval)
    ) + INTERVAL '59 minutes 59.999999 seconds', 'UTC')
    FROM timescaledb_information.jobs AS j
    LEFT JOIN _timescaledb_catalog.continuous_agg AS a
      ON a.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::integer
    WHERE CASE j.proc_name
        WHEN 'policy_retention'
            THEN to_regclass(format('%I.%I', j.hypertable_schema, j.hypertable_name)) = to_regclass('llm_interactions')
        WHEN 'policy_refresh_continuous_aggregate'
            THEN to_regclass(format('%I.%I', a.user_view_schema, a.user_view_name)) = to_regclass('cache_usage_hourly')
    END;
$$;

-- Sets where the refresh policy begins, and stores the first refreshed hour if keep is TRUE. The policy knows only an
-- age, so a daily job sets it again: the age of never_before grows. One day less than the age of retention is safe,
-- because only calls older than that age are dropped.
CREATE FUNCTION rlm_cachetrack_bound_refresh(keep BOOLEAN) RETURNS VOID
LANGUAGE sql AS $$
    SELECT alter_job(
        j.job_id,
        config => j.config
            || jsonb_build_object('start_offset', least(
                r.drop_after - INTERVAL '1 day',
                now() - CASE WHEN keep THEN f.hour ELSE (j.config ->> 'never_before')::timestamptz END
            ))
            || CASE WHEN keep AND f.hour IS NOT NULL THEN jsonb_build_object('never_before', f.hour) ELSE '{}' END
    )
    FROM timescaledb_information.jobs AS j
    JOIN _timescaledb_catalog.continuous_agg AS a ON a.mat_hypertable_id = (j.config ->> 'mat_hypertable_id')::integer
    CROSS JOIN (SELECT rlm_cachetrack_first_refreshed_hour() AS hour) AS f
    CROSS JOIN (
        SELECT max((d.config ->> 'drop_after')::interval) AS drop_after
        FROM timescaledb_information.jobs AS d
        WHERE d.proc_name = 'policy_retention'
          AND to_regclass(format('%I.%I', d.hypertable_schema, d.hypertable_name)) = to_regclass('llm_interactions')
    ) AS r
    WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
      AND to_regclass(format('%I.%I', a.user_view_schema, a.user_view_name)) = to_regclass('cache_usage_hourly');
$$;

-- ---- Refreshes requested by writers.
-- A late call belongs to an hour that is already materialized. The owner of the aggregate refreshes that hour directly.
-- Other writers may not: they call rlm_cachetrack_refresh_hours, and a background job that runs as the owner refreshes.

-- One row per request, deleted once its hours are refreshed. first_hour, last_hour: start times of the hours.
CREATE TABLE rlm_cachetrack_stale_hours (
    request_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_hour TIMESTAMPTZ NOT NULL,
    last_hour  TIMESTAMPTZ NOT NULL
);

-- A background job has no session settings, so its configuration names the search_path.
CREATE PROCEDURE rlm_cachetrack_refresh_stale_hours(job_id INTEGER, config JSONB)
LANGUAGE plpgsql AS $$
DECLARE
    requested RECORD;
BEGIN
    PERFORM set_config('search_path', config ->> 'search_path', FALSE);
    PERFORM rlm_cachetrack_bound_refresh(keep => FALSE);
    PERFORM set_chunk_time_interval('llm_interactions', rlm_cachetrack_chunk_interval());
    LOOP
        SELECT max(request_id) AS newest, min(first_hour) AS first_hour, max(last_hour) AS last_hour
        INTO requested
        FROM (
            -- Select the oldest request, and those that overlap it.
            SELECT h.*
            FROM rlm_cachetrack_stale_hours AS h
            JOIN (SELECT * FROM rlm_cachetrack_stale_hours ORDER BY request_id LIMIT 1) AS oldest
              ON h.first_hour <= oldest.last_hour AND h.last_hour >= oldest.first_hour
        ) AS overlapping;
        EXIT WHEN requested.newest IS NULL;
        CALL refresh_continuous_aggregate(
            'cache_usage_hourly', requested.first_hour, requested.last_hour + INTERVAL '1 hour'
        );
        DELETE FROM rlm_cachetrack_stale_hours
        WHERE request_id <= requested.newest
          AND first_hour >= requested.first_hour AND last_hour <= requested.last_hour;
        COMMIT;
    END LOOP;
END
$$;

-- The job also runs daily. A request starts it at once. A run that finds another refresh of the same hours in progress is retried soon.
SELECT alter_job(
    add_job(
        'rlm_cachetrack_refresh_stale_hours', INTERVAL '1 day',
        config => jsonb_build_object('search_path', current_setting('search_path'))
    ),
    retry_period => INTERVAL '5 seconds'
);

-- Requests a refresh; returns the request's number.
CREATE FUNCTION rlm_cachetrack_refresh_hours(first_hour TIMESTAMPTZ, last_hour TIMESTAMPTZ) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    request BIGINT;
BEGIN
    INSERT INTO rlm_cachetrack_stale_hours (first_hour, last_hour) VALUES ($1, $2)
    RETURNING request_id INTO request;
    PERFORM alter_job(j.job_id, next_start => now())
    FROM timescaledb_information.jobs AS j
    JOIN pg_proc AS p ON p.proname = j.proc_name
    JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = j.proc_schema
    WHERE p.oid = to_regproc('rlm_cachetrack_refresh_stale_hours');
    RETURN request;
END
$$;

-- Returns whether a request is still waiting.
CREATE FUNCTION rlm_cachetrack_hours_are_stale(request BIGINT) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT 1 FROM rlm_cachetrack_stale_hours WHERE request_id = $1);
$$;

-- A SECURITY DEFINER function needs a fixed search_path: otherwise its caller determines which objects its names
-- resolve to.
DO $$
DECLARE
    trusted CONSTANT TEXT := current_setting('search_path') || ', pg_temp';
BEGIN
    EXECUTE 'ALTER FUNCTION rlm_cachetrack_refresh_hours SET search_path = ' || trusted;
    EXECUTE 'ALTER FUNCTION rlm_cachetrack_hours_are_stale SET search_path = ' || trusted;
END
$$;

-- ---- Columnstore.
-- Segments by model, because queries over long periods filter and group by model. Within a segment, rows are ordered
-- by run: the rows of one run are in one or two batches of 1,000, and the minimum and maximum kept per batch let reads
-- of a run, and ON CONFLICT, skip the others. run_id comes before query_id because it is a time: runs of about the same
-- time are next to each other, which compresses better and narrows reads by time. Late calls go into the chunk's row
-- store, and the same job merges them.

ALTER TABLE llm_interactions SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'model',
    timescaledb.orderby = 'run_id, query_id, time, interaction_id'
);

-- TimescaleDB 2.20 and newer add a bloom filter for every index (primary key, cached_tokens). They take 3 of 74 bytes
-- per call and skip no more than the order and the ranges do. 2.22 and newer let us choose ranges only.
DO $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM pg_attribute
        WHERE attrelid = '_timescaledb_catalog.compression_settings'::regclass AND attname = 'index'
    ) THEN
        ALTER TABLE llm_interactions SET (timescaledb.sparse_index = 'minmax(cached_tokens), minmax(total_cost)');
    END IF;
END
$$;

CALL add_columnstore_policy('llm_interactions', after => INTERVAL '7 days');

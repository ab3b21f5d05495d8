-- 0003 cache_usage_hourly: the continuous aggregate with the three sums of core/0003, and a way to refresh late hours.
-- Why:   as core/0003. Calls that arrive below the watermark are to be seen at once, also where the role that writes
--        them does not own the aggregate: it asks (rlm_cachetrack_refresh_hours), and a background job that runs as the
--        owner refreshes.
-- Lock:  ACCESS EXCLUSIVE on the view, for a moment; the hours are filled by the refresh policy, and until then read
--        from the calls.
-- Needs: TimescaleDB with its community licence.

DO $$
BEGIN
    IF EXISTS (
        SELECT 1
        FROM _timescaledb_catalog.continuous_agg AS a
        JOIN pg_class AS c ON c.relname = a.user_view_name
        JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
        WHERE c.oid = to_regclass('cache_usage_hourly')
    ) THEN
        DROP MATERIALIZED VIEW cache_usage_hourly;
    ELSE
        DROP VIEW cache_usage_hourly;
    END IF;
END
$$;

CREATE MATERIALIZED VIEW cache_usage_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket(INTERVAL '1 hour', time) AS bucket,
    provider,
    model,
    service_tier,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
    count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
    count(*) FILTER (WHERE cached_tokens IS NULL) AS interactions_not_reported,
    count(*) FILTER (WHERE NOT success) AS failed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions,
    sum(prompt_tokens::bigint) AS prompt_tokens,
    sum(prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_prompt_tokens,
    sum(completion_tokens::bigint) AS completion_tokens,
    sum(total_tokens::bigint) AS total_tokens,
    sum(cached_tokens::bigint) AS cached_tokens,
    sum(uncached_prompt_tokens::bigint) AS uncached_prompt_tokens,
    sum(cache_write_tokens::bigint) AS cache_write_tokens,
    sum(reasoning_tokens::bigint) AS reasoning_tokens,
    sum(total_cost) AS total_cost,
    sum(original_cost) FILTER (WHERE total_cost IS NOT NULL) AS original_cost,
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL) AS compared_cost,
    count(duration_ms) AS timed_interactions,
    sum(duration_ms) AS duration_ms,
    count(time_to_first_token_ms) AS streamed_interactions,
    sum(time_to_first_token_ms) AS time_to_first_token_ms,
    count(total_cost) AS priced_interactions,
    sum(cached_tokens::bigint) FILTER (WHERE prompt_tokens IS NOT NULL) AS rated_cached_tokens,
    sum(uncached_prompt_tokens::bigint) FILTER (WHERE cached_tokens IS NOT NULL) AS reported_uncached_tokens
FROM llm_interactions
GROUP BY 1, 2, 3, 4
WITH NO DATA;

-- All that is older than the hour in progress is materialized: what is left to be summed from the calls is small.
SELECT add_continuous_aggregate_policy(
    'cache_usage_hourly',
    start_offset => NULL,
    end_offset => INTERVAL '10 minutes',
    schedule_interval => INTERVAL '15 minutes'
);

-- Hours that somebody who may not refresh them asks for; a row goes when its hours are right again.
CREATE TABLE rlm_cachetrack_stale_hours (
    request_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_hour TIMESTAMPTZ NOT NULL,
    last_hour  TIMESTAMPTZ NOT NULL
);

-- The settings of the migrating session name the schemas; a background job has none of them.
CREATE PROCEDURE rlm_cachetrack_refresh_stale_hours(job_id INTEGER, config JSONB)
LANGUAGE plpgsql AS $$
DECLARE
    asked RECORD;
BEGIN
    PERFORM set_config('search_path', config ->> 'search_path', FALSE);
    LOOP
        SELECT max(request_id) AS newest, min(first_hour) AS first_hour, max(last_hour) AS last_hour
        INTO asked
        FROM (
            -- Together with the oldest request those that overlap it.
            SELECT h.*
            FROM rlm_cachetrack_stale_hours AS h
            JOIN (SELECT * FROM rlm_cachetrack_stale_hours ORDER BY request_id LIMIT 1) AS oldest
              ON h.first_hour <= oldest.last_hour AND h.last_hour >= oldest.first_hour
        ) AS together;
        EXIT WHEN asked.newest IS NULL;
        CALL refresh_continuous_aggregate(
            'cache_usage_hourly', asked.first_hour, asked.last_hour + INTERVAL '1 hour'
        );
        DELETE FROM rlm_cachetrack_stale_hours
        WHERE request_id <= asked.newest AND first_hour >= asked.first_hour AND last_hour <= asked.last_hour;
        COMMIT;
    END LOOP;
END
$$;

-- Started by a request; a run that meets another refresh of the same hours is repeated soon.
SELECT alter_job(
    add_job(
        'rlm_cachetrack_refresh_stale_hours', INTERVAL '1 day',
        config => jsonb_build_object('search_path', current_setting('search_path'))
    ),
    retry_period => INTERVAL '5 seconds'
);

-- For writers without rights on the aggregate: ask for hours, and ask whether they are done.
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

CREATE FUNCTION rlm_cachetrack_hours_are_stale(request BIGINT) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT 1 FROM rlm_cachetrack_stale_hours WHERE request_id = $1);
$$;

-- A function that runs with its owner's rights finds names where its owner meant them, and nowhere else.
DO $$
DECLARE
    trusted CONSTANT TEXT := current_setting('search_path') || ', pg_temp';
BEGIN
    EXECUTE 'ALTER FUNCTION rlm_cachetrack_refresh_hours SET search_path = ' || trusted;
    EXECUTE 'ALTER FUNCTION rlm_cachetrack_hours_are_stale SET search_path = ' || trusted;
END
$$;

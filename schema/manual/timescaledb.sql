-- For people who run their own migrations: what `rlm-cachetrack migrate` does, as one file of plain SQL.
--
-- An empty database with TimescaleDB 2.18 or newer, community edition.
-- Run it as the owner of the tables, such as: psql -v ON_ERROR_STOP=1 -f timescaledb.sql DATABASE_URL
-- Each step is a transaction that also says that it ran; the library then finds nothing left to do.
-- `rlm-cachetrack migrate --dry-run` prints the same for a database as it is, and what is to be known before.
-- Made from the other folders of schema/; do not edit.

-- ==== core/0001_initial
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0001 initial: the three tables, their keys and indexes.
-- Why:   the first release.
-- Lock:  none on existing data; takes no lock that waits for readers or writers of other tables.
--
-- Tokens: the OpenAI SDK's words; prompt_tokens is all input, cached included. NULL is "not reported", 0 is "none".
-- Prices: USD per 1,000 tokens. Costs: USD. *_ms: milliseconds. usage: what the server sent, as it sent it.

CREATE TABLE llm_interactions (
    time                    TIMESTAMPTZ      NOT NULL,
    interaction_id          UUID             NOT NULL,
    query_id                TEXT             NOT NULL,
    run_id                  TIMESTAMPTZ      NOT NULL,
    model                   TEXT             NOT NULL,
    model_type              TEXT,
    model_index             INTEGER,
    prompt_tokens           INTEGER,
    completion_tokens       INTEGER,
    total_tokens            INTEGER,
    cached_tokens           INTEGER,
    uncached_prompt_tokens  INTEGER,
    cache_write_tokens      INTEGER,
    reasoning_tokens        INTEGER,
    prompt_token_price      DOUBLE PRECISION,
    cached_token_price      DOUBLE PRECISION,
    cache_write_token_price DOUBLE PRECISION,
    completion_token_price  DOUBLE PRECISION,
    total_cost              DOUBLE PRECISION,
    original_cost           DOUBLE PRECISION,
    duration_ms             DOUBLE PRECISION,
    time_to_first_token_ms  DOUBLE PRECISION,
    start_time              TIMESTAMPTZ,
    end_time                TIMESTAMPTZ,
    context_messages        INTEGER,
    context_tokens          INTEGER,
    response_length         INTEGER,
    iteration               INTEGER,
    recursion_id            TEXT,
    parent_recursion_id     TEXT,
    current_depth           INTEGER,
    max_depth               INTEGER,
    has_tool_calls          BOOLEAN,
    tool_call_count         INTEGER,
    success                 BOOLEAN          NOT NULL,
    error_message           TEXT,
    error_type              TEXT,
    metadata                JSONB,
    provider                TEXT,
    api                     TEXT,
    service_tier            TEXT,
    finish_reason           TEXT,
    request_id              TEXT,
    price_source            TEXT,
    usage                   JSONB,
    usage_anomaly           TEXT,
    -- One key that serves the read of a run, holds on a hypertable over time, and when Citus distributes by query_id.
    PRIMARY KEY (query_id, run_id, time, interaction_id)
);

-- A row written by hand that does not speak of the cache means "none"; the library always says which.
ALTER TABLE llm_interactions ALTER COLUMN cached_tokens SET DEFAULT 0;
ALTER TABLE llm_interactions ALTER COLUMN interaction_id SET DEFAULT gen_random_uuid();
ALTER TABLE llm_interactions ALTER COLUMN success SET DEFAULT TRUE;

CREATE INDEX idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE INDEX idx_llm_time ON llm_interactions (time DESC);

CREATE TABLE token_cache_optimization (
    query_id                  TEXT             NOT NULL,
    run_id                    TIMESTAMPTZ      NOT NULL,
    time                      TIMESTAMPTZ      NOT NULL,
    total_prompt_tokens       BIGINT           NOT NULL,
    total_cached_tokens       BIGINT           NOT NULL,
    cache_savings_tokens      BIGINT           NOT NULL,
    cache_savings_percentage  DOUBLE PRECISION,
    original_cost             DOUBLE PRECISION,
    cached_cost               DOUBLE PRECISION,
    cost_savings              DOUBLE PRECISION,
    cost_savings_percentage   DOUBLE PRECISION,
    total_interactions        BIGINT           NOT NULL,
    interactions_with_cache   BIGINT           NOT NULL,
    interactions_without_cache  BIGINT         NOT NULL,
    interactions_not_reported BIGINT           NOT NULL,
    unpriced_interactions     BIGINT           NOT NULL,
    cache_evolution           JSONB            NOT NULL,
    PRIMARY KEY (query_id, run_id)
);

CREATE INDEX idx_cache_opt_query_id ON token_cache_optimization (query_id, time DESC);
CREATE INDEX idx_cache_opt_savings ON token_cache_optimization (cost_savings DESC, time DESC);

CREATE TABLE query_run_summaries (
    query_id                TEXT             NOT NULL,
    run_id                  TIMESTAMPTZ      NOT NULL,
    start_time              TIMESTAMPTZ      NOT NULL,
    end_time                TIMESTAMPTZ,
    status                  TEXT             NOT NULL DEFAULT 'running',
    metadata                JSONB,
    total_interactions      BIGINT,
    failed_interactions     BIGINT,
    total_prompt_tokens     BIGINT,
    total_completion_tokens BIGINT,
    total_tokens            BIGINT,
    total_cached_tokens     BIGINT,
    total_cost              DOUBLE PRECISION,
    avg_duration_ms         DOUBLE PRECISION,
    p50_duration_ms         DOUBLE PRECISION,
    p95_duration_ms         DOUBLE PRECISION,
    p99_duration_ms         DOUBLE PRECISION,
    PRIMARY KEY (query_id, run_id)
);

CREATE INDEX idx_query_run_summaries_start ON query_run_summaries (start_time DESC, query_id);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 1, 'initial', '869dd57412d13f338ddc242a439ff74a94f12f747e87e7d84b64c083f84ba0d6');
COMMIT;

-- ==== timescale/0001_hypertables
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0001 hypertables: both growing tables become hypertables.
-- Why:   chunks by day keep the indexes of the present small, and let old days be compressed or dropped whole.
-- Lock:  ACCESS EXCLUSIVE on the two tables while existing rows move into chunks.
-- Needs: TimescaleDB, any licence.
--
-- token_cache_optimization is partitioned over run_id: TimescaleDB refuses a unique key without the partitioning
-- column, and its key is (query_id, run_id).

SELECT create_hypertable(
    'llm_interactions', 'time',
    chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE, migrate_data => TRUE
);

SELECT create_hypertable(
    'token_cache_optimization', 'run_id',
    chunk_time_interval => INTERVAL '1 year', create_default_indexes => FALSE, migrate_data => TRUE
);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 1, 'hypertables', 'da0897215559792a29924e69ba0c50735cc864912b301db407bcc05504e5f80d');
COMMIT;

-- ==== core/0002_cache_usage_hourly
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0002 cache_usage_hourly: sums by hour, provider, model and service tier.
-- Why:   one name for "how much, over time", whatever the engine. On TimescaleDB, timescale/0002 puts a continuous
--        aggregate of the same name and columns in its place.
-- Lock:  none on existing data.
--
-- *_tokens: sums of tokens. reported_prompt_tokens: prompt tokens of the calls that reported their cache use (the
-- denominator of a hit rate). total_cost, original_cost: USD over the priced calls. compared_cost: total_cost of the
-- calls whose original_cost is known too (original_cost - compared_cost are the savings). duration_ms: sum.

CREATE VIEW cache_usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS bucket,
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
    sum(time_to_first_token_ms) AS time_to_first_token_ms
FROM llm_interactions
GROUP BY 1, 2, 3, 4;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 2, 'cache_usage_hourly', '2815043e51f09ba77a099a0e044f86a1eac7b66ce381a2d122b76bdcc809bc7d');
COMMIT;

-- ==== timescale/0002_cache_usage_hourly
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0002 cache_usage_hourly: the view becomes a continuous aggregate of the same name and columns.
-- Why:   a year by model is then read from a few thousand rows instead of millions.
-- Lock:  ACCESS EXCLUSIVE on the view, for a moment; filling is left to the refresh policy.
-- Needs: TimescaleDB with its community licence.

DROP VIEW cache_usage_hourly;

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
    sum(time_to_first_token_ms) AS time_to_first_token_ms
FROM llm_interactions
GROUP BY 1, 2, 3, 4
WITH NO DATA;

SELECT add_continuous_aggregate_policy(
    'cache_usage_hourly',
    start_offset => NULL,
    end_offset => INTERVAL '1 hour',
    schedule_interval => INTERVAL '15 minutes'
);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 2, 'cache_usage_hourly', '84e418554235baecc135fada92d938251d242b2c7ceecff65cc8849ac888a60a');
COMMIT;

-- ==== core/0003_bounds
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0003 bounds: when the calls of a run began and ended, beside the run; and three more sums by hour.
-- Why:   a read of one run then looks into the chunks of its days only, however many years are stored. The sums let the
--        effectiveness by model be read from cache_usage_hourly alone.
-- Lock:  ACCESS EXCLUSIVE on query_run_summaries and cache_usage_hourly while the bounds are filled from the calls (one
--        pass over llm_interactions, 1-3 s a million rows); reads and writes of llm_interactions go on.
--
-- first_call_time, last_call_time: of the calls that the library stored; NULL: not known, every chunk is looked into.
-- Who adds calls to a run around the library widens them, or sets them to NULL.
-- priced_interactions: the calls that have a cost, the denominator of an average cost. rated_cached_tokens: cached
-- tokens of the calls that also report their prompt tokens, the numerator of a hit rate; its denominator is
-- reported_prompt_tokens. reported_uncached_tokens: uncached tokens of the calls that reported their cache use.

ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS first_call_time TIMESTAMPTZ;
ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS last_call_time TIMESTAMPTZ;

UPDATE query_run_summaries AS s
SET first_call_time = c.first_call_time, last_call_time = c.last_call_time
FROM (
    SELECT query_id, run_id, min(time) AS first_call_time, max(time) AS last_call_time
    FROM llm_interactions
    GROUP BY query_id, run_id
) AS c
WHERE c.query_id = s.query_id AND c.run_id = s.run_id;

-- A continuous aggregate is made anew with its columns (timescale/0003); a view keeps what depends on it.
DO $$
BEGIN
    IF to_regclass('_timescaledb_catalog.continuous_agg') IS NOT NULL THEN
        EXECUTE $sql$
            DO $inner$
            BEGIN
                IF EXISTS (
                    SELECT 1
                    FROM _timescaledb_catalog.continuous_agg AS a
                    JOIN pg_class AS c ON c.relname = a.user_view_name
                    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
                    WHERE c.oid = to_regclass('cache_usage_hourly')
                ) THEN
                    DROP MATERIALIZED VIEW cache_usage_hourly;
                END IF;
            END
            $inner$
        $sql$;
    END IF;
END
$$;

CREATE OR REPLACE VIEW cache_usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS bucket,
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
GROUP BY 1, 2, 3, 4;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 3, 'bounds', '3fdc22d59b8729c15ba596efe091f35c6760db1e0b5a1370ea4a6888828c52a5');
COMMIT;

-- ==== timescale/0003_cache_usage_hourly
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

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

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 3, 'cache_usage_hourly', 'a510587582942d1b63b019d223e3681a250b4e6d3d195d4e7938dfb203521c3a');
COMMIT;

-- ==== timescale/0004_columnstore
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0004 columnstore: calls older than a week move to the columnstore.
-- Why:   a tenth of the space, and reads of a few columns over much time are faster.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; chunks are converted by a background job, one by one.
-- Needs: TimescaleDB with its community licence.
--
-- Segments by model: what is asked over long times is asked by model. Within a segment the order is that of the primary
-- key, so that one run's rows lie in one or two batches of 1,000, and the smallest and largest values kept for each
-- batch let a read of a run, and the look for a row that is there already, skip all others. Late rows go into the
-- chunk beside its columnstore, and are merged into it by the same job.

ALTER TABLE llm_interactions SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'model',
    timescaledb.orderby = 'query_id, run_id, time, interaction_id'
);

CALL add_columnstore_policy('llm_interactions', after => INTERVAL '7 days');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 4, 'columnstore', 'c5057ee0d83ff469ba62cfd27dd9038281d0bbf0fa1f39d58729748a1bbe4610');
COMMIT;

-- ==== core/0005_price_changes
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0005 price_changes: what re-pricings changed, so that each can be continued and undone; calls without a price.
-- Why:   prices are corrected after the fact, and a correction may be wrong itself.
-- Lock:  SHARE on llm_interactions while the index is made: writers wait, readers do not.

-- One row a re-pricing. status: running (calls are being priced), summing (runs are being summed up again), done,
-- undoing, undone. rates: the prices it applies, by model, provider, tier, time and size of the prompt, so that it is
-- continued with the prices it was begun with. cursor_*: the last call it looked at.
CREATE TABLE price_changes (
    change_id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at           TIMESTAMPTZ      NOT NULL DEFAULT now(),
    finished_at          TIMESTAMPTZ,
    status               TEXT             NOT NULL DEFAULT 'running',
    pricing              TEXT             NOT NULL,
    since                TIMESTAMPTZ,
    until                TIMESTAMPTZ,
    model                TEXT,
    query_id             TEXT,
    rates                JSONB            NOT NULL,
    total_interactions   BIGINT           NOT NULL,
    looked_at            BIGINT           NOT NULL DEFAULT 0,
    changed_interactions BIGINT           NOT NULL DEFAULT 0,
    batches              INTEGER          NOT NULL DEFAULT 0,
    cost_before          DOUBLE PRECISION,
    cost_after           DOUBLE PRECISION,
    first_time           TIMESTAMPTZ,
    last_time            TIMESTAMPTZ,
    cursor_time          TIMESTAMPTZ,
    cursor_id            UUID
);

-- What the changed calls had before.
CREATE TABLE price_change_rows (
    change_id               BIGINT      NOT NULL,
    batch                   INTEGER     NOT NULL,
    query_id                TEXT        NOT NULL,
    run_id                  TIMESTAMPTZ NOT NULL,
    time                    TIMESTAMPTZ NOT NULL,
    interaction_id          UUID        NOT NULL,
    prompt_token_price      DOUBLE PRECISION,
    cached_token_price      DOUBLE PRECISION,
    cache_write_token_price DOUBLE PRECISION,
    completion_token_price  DOUBLE PRECISION,
    total_cost              DOUBLE PRECISION,
    original_cost           DOUBLE PRECISION,
    price_source            TEXT
);

CREATE INDEX idx_price_change_rows ON price_change_rows (change_id, batch);

-- What their runs had before; the counts tell whether calls came since.
CREATE TABLE price_change_runs (
    change_id               BIGINT      NOT NULL,
    query_id                TEXT        NOT NULL,
    run_id                  TIMESTAMPTZ NOT NULL,
    summed                  BOOLEAN     NOT NULL DEFAULT FALSE,
    optimized_interactions  BIGINT,
    original_cost           DOUBLE PRECISION,
    cached_cost             DOUBLE PRECISION,
    cost_savings            DOUBLE PRECISION,
    cost_savings_percentage DOUBLE PRECISION,
    unpriced_interactions   BIGINT,
    total_interactions      BIGINT,
    total_cost              DOUBLE PRECISION,
    PRIMARY KEY (change_id, query_id, run_id)
);

-- For doctor, which names the models of calls without a price.
CREATE INDEX idx_llm_unpriced ON llm_interactions (model, time DESC)
    WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 5, 'price_changes', '504c26d056522cfa48d2a778a184474b0deb6ba2c9c1c6cfce7807f03fe0636b');
COMMIT;

-- ==== timescale/0005_hourly_oldest_first
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0005 hourly_oldest_first: the refresh policy of cache_usage_hourly works from the oldest hour to the newest.
-- Why:   newer releases of TimescaleDB refresh some hours at a time, the newest first. The view takes all that is older
--        than the newest materialized hour for materialized, so while a first refresh went on the view lacked up to all
--        of it (seen with 2.28.3: 1,932 of 200,000 calls). From the oldest on, what is not materialized yet is summed
--        from the calls. A release that only knows the newest first is told to do it all at once.
-- Lock:  none on existing data.
-- Needs: TimescaleDB with its community licence.

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

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 5, 'hourly_oldest_first', 'edc40a7412dbfb42baef94d622fb3f6660c26c16ff8aabf41ebbf0996129824e');
COMMIT;

-- ==== core/0006_budgets
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0006 budgets: what may be spent, so that `budget check` can fail a build before the invoice does.
-- Why:   a budget belongs to the data it is about, not to one machine.
-- Lock:  none on existing data.
--
-- period: day, week (from Monday) or month, in UTC. model: NULL for all models.

CREATE TABLE budgets (
    name       TEXT             PRIMARY KEY,
    amount_usd DOUBLE PRECISION NOT NULL CHECK (amount_usd > 0),
    period     TEXT             NOT NULL CHECK (period IN ('day', 'week', 'month')),
    model      TEXT,
    changed_at TIMESTAMPTZ      NOT NULL DEFAULT now()
);

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 6, 'budgets', 'b8cd89a90e65e8bc6b12b43d81fef3eaa2ef5d94c48686f2820d039d30f2adb0');
COMMIT;

-- ==== core/0007_fingerprint
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0007 fingerprint: what the prompt of a call was, without its content.
-- Why:   tells from history why tokens were not read from the cache: which part of the prompt differed from before.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; the rows that are there have none and are not rewritten.
--
-- A keyed hash and the size of each segment of the prompt, as a difference to an earlier call of the run; NULL where there
-- is none. Read by rlm_cachetrack only; nothing of the text can be had back without the secret, and with it only guesses
-- can be tested.

ALTER TABLE llm_interactions ADD COLUMN IF NOT EXISTS fingerprint BYTEA;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 7, 'fingerprint', 'eceda36002490a11c9802e66d68cb132bffaa777fe4878d7eb8122e758e5ff4c');
COMMIT;

-- ==== core/0008_run_rates
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0008 run_rates: what the hit rate of an ended run is made of, beside its totals.
-- Why:   the list of runs then needs no call of a run that has ended, however old it is.
-- Lock:  ACCESS EXCLUSIVE on query_run_summaries, for a moment; rows that are there are not rewritten.
--
-- reported_prompt_tokens: prompt tokens of the calls that reported their cache use; rated_cached_tokens: cached tokens of
-- the calls that report their prompt tokens, too. Both are set with the totals of a run that has ended. NULL: the totals,
-- if there are any, are somebody else's, or of an older release, and the calls are counted instead.
-- Who adds calls to an ended run around the library sets reported_prompt_tokens to NULL.

ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS reported_prompt_tokens BIGINT;
ALTER TABLE query_run_summaries ADD COLUMN IF NOT EXISTS rated_cached_tokens BIGINT;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 8, 'run_rates', 'f66df8831cbd976aed35ede22fdb1651f0e08942427d3cc5db68bb973e0ab3d3');
COMMIT;

-- ==== core/0009_hours
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);

-- 0009 hours: an hour's calls are found by an index where cache_usage_hourly is a view.
-- Why:   a question about some hours read every call that is stored.
-- Lock:  SHARE on llm_interactions while the index is made: writers wait, readers do not; about 1 s a million calls.
--
-- The view's hour is now date_bin, which is the same but can be indexed: it depends on no setting. BRIN, because calls
-- arrive in the order of time: the index is of some kilobytes and costs a write next to nothing. A continuous aggregate
-- of TimescaleDB needs neither.

DO $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('cache_usage_hourly')) <> 'v'
        OR (
            to_regclass('_timescaledb_catalog.continuous_agg') IS NOT NULL
            AND EXISTS (
                SELECT 1 FROM pg_depend AS d
                JOIN pg_rewrite AS w ON w.oid = d.objid AND w.ev_class = to_regclass('cache_usage_hourly')
                JOIN pg_class AS c ON c.oid = d.refobjid
                JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = '_timescaledb_internal'
            )
        )
    THEN
        RETURN;
    END IF;
    CREATE OR REPLACE VIEW cache_usage_hourly AS
    SELECT
        date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket,
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
    GROUP BY 1, 2, 3, 4;
    CREATE INDEX IF NOT EXISTS idx_llm_hour ON llm_interactions
        USING brin (date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00'))
        WITH (pages_per_range = 32, autosummarize = on);
END
$$;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('core', 9, 'hours', '394faf3a84f9ddae1c4a97bd70b1671c533b508de9d58f43f5a3bcff01566e5a');
COMMIT;

-- ==== timescale/0010_sparse_index
BEGIN;
-- migrations_patience: a step takes as long as it takes, whatever is set for the role; ends with the transaction.
-- Parameters: none.
-- Result:     one row without meaning. How long locks are waited for stays as it is set.
SELECT
    set_config('statement_timeout', '0', TRUE),
    set_config('idle_in_transaction_session_timeout', '0', TRUE);
-- migrations_lock: one migrating process at a time; ends with the transaction.
-- Parameters: lock BIGINT.
-- Result:     one row without meaning.
SELECT pg_advisory_xact_lock(1919708515);
-- migrations_create: the table of what was applied.
-- Parameters: none.
-- Result:     none.
CREATE TABLE IF NOT EXISTS rlm_cachetrack_migrations (
    engine TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (engine, version)
);
-- timescale_search_path: find TimescaleDB's functions also where the address names another schema than theirs.
-- Parameters: none.
-- Result:     one row without meaning; ends with the transaction.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), TRUE)
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb';

-- 0010 sparse_index: of each batch in the columnstore keep the range of what is asked about, and no bloom filters.
-- Why:   TimescaleDB 2.20 and newer make a filter for every index on its own accord: of the primary key, and of
--        cached_tokens with and without time. They take 3 of 74 bytes a call and tell nothing that the order of the
--        batches and the ranges do not: late calls, and calls that are offered again, are stored as fast without.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions, for a moment; days that are in the columnstore already stay as they are.
-- Needs: TimescaleDB with its community licence.
--
-- Releases before 2.22 cannot be told, and keep theirs. So does a table for which somebody chose his own.

DO $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM pg_attribute
        WHERE attrelid = '_timescaledb_catalog.compression_settings'::regclass AND attname = 'index'
    ) AND NOT EXISTS (
        SELECT 1 FROM _timescaledb_catalog.compression_settings AS s
        WHERE s.relid = 'llm_interactions'::regclass AND to_jsonb(s) -> 'index' @> '[{"source": "config"}]'
    ) THEN
        ALTER TABLE llm_interactions SET (timescaledb.sparse_index = 'minmax(cached_tokens), minmax(total_cost)');
    END IF;
END
$$;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('timescale', 10, 'sparse_index', 'add79aa8383174f66f19443e320ffc9208dcc7275bf5ce2850eb32040552d052');
COMMIT;

-- For people who run their own migrations: what `rlm-cachetrack migrate` does, as one file of plain SQL.
--
-- An empty database of a coordinator with Citus 12 or newer.
-- Run it as the owner of the tables, such as: psql -v ON_ERROR_STOP=1 -f citus.sql DATABASE_URL
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

-- ==== citus/0001_distribute
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

-- 0001 distribute: the tables that grow are spread over the nodes by query_id, with all that belongs to a run together.
-- Why:   a batch's rows go to the nodes that hold their shards, a run is read from one shard, and all else is summed up
--        where it lies. What was applied is known on every node, so that a program may connect to any of them.
-- Lock:  ACCESS EXCLUSIVE on the tables while rows that are there move into shards (about 15 s a million calls).
-- Needs: Citus 12 or newer.
--
-- How many shards there are is citus.shard_count (32 by default) as this runs; alter_distributed_table changes it later.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

SELECT create_distributed_table('llm_interactions', 'query_id');
SELECT create_distributed_table('token_cache_optimization', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('query_run_summaries', 'query_id', colocate_with => 'llm_interactions');
SELECT create_reference_table('rlm_cachetrack_migrations');

-- What was there before stays behind, unseen, in the coordinator's own tables.
SELECT truncate_local_data_after_distributing_table('llm_interactions');
SELECT truncate_local_data_after_distributing_table('token_cache_optimization');
SELECT truncate_local_data_after_distributing_table('query_run_summaries');
SELECT truncate_local_data_after_distributing_table('rlm_cachetrack_migrations');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 1, 'distribute', 'a84311a684e63d8089a77ccd9e0c81706987f7bc09984ff8c4a99fdb040929ca');
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

-- ==== citus/0005_price_changes
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

-- 0005 price_changes: what re-pricings changed lies beside the calls and runs that it is about; the log is on every node.
-- Why:   a batch is then changed, and undone, where its calls are.
-- Lock:  ACCESS EXCLUSIVE on the three tables while rows that are there move.
-- Needs: Citus 12 or newer.

SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- Its rows are updated by no key of theirs; without one, shards cannot move while the program writes.
ALTER TABLE price_change_rows REPLICA IDENTITY FULL;

SELECT create_reference_table('price_changes');
SELECT create_distributed_table('price_change_rows', 'query_id', colocate_with => 'llm_interactions');
SELECT create_distributed_table('price_change_runs', 'query_id', colocate_with => 'llm_interactions');

SELECT truncate_local_data_after_distributing_table('price_changes');
SELECT truncate_local_data_after_distributing_table('price_change_rows');
SELECT truncate_local_data_after_distributing_table('price_change_runs');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 5, 'price_changes', '282fe6419918a50f1aa159299ba5900704c048898b8daaa4a092ebc0ebdc0236');
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

-- ==== citus/0006_budgets
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

-- 0006 budgets: on every node.
-- Why:   they are few, and asked for wherever a program connects.
-- Lock:  ACCESS EXCLUSIVE on budgets, for a moment.
-- Needs: Citus 12 or newer.

SELECT create_reference_table('budgets');

SELECT truncate_local_data_after_distributing_table('budgets');

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 6, 'budgets', '03b5ff358d65a97861c9a9b4ba07e8d42799ef4c85fb3c0deff9b1367856b9b0');
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

-- ==== citus/0009_cache_usage_hourly
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

-- 0009 cache_usage_hourly: the view's sums are by query_id, too, which is not among its columns.
-- Why:   sums by what the rows are distributed by are made on the shards as a whole, and with them the bounds of a
--        question: some hours are then found by each shard's index. Without it, Citus first sums up all hours there are.
-- Lock:  ACCESS EXCLUSIVE on the view, for a moment.
-- Needs: Citus 12 or newer.
--
-- An hour, provider, model and service tier may so have several rows, one a query: who reads the view sums them up, as
-- every query of this library does on every engine.

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
GROUP BY 1, 2, 3, 4, query_id;

-- migrations_insert: a script was applied.
-- Parameters: engine TEXT, version INTEGER, name TEXT, checksum TEXT.
-- Result:     none.
INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)
VALUES ('citus', 9, 'cache_usage_hourly', '4d23f2b93ad7b17a3259fb5da4f75031c9930a5cc8bd8fc54ad1224aa4ea7837');
COMMIT;

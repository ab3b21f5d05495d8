-- 0001 hypertables: llm_interactions and token_cache_optimization become hypertables.
-- Why:   chunks of one day keep the current indexes small, and old days can be compressed or dropped as a whole. Planning
--        takes time for each chunk, so days with fewer than 10,000 calls that move here get chunks of seven days, and a
--        daily job (timescale/0002) widens the chunks of a small store.
-- Lock:  ACCESS EXCLUSIVE on the two tables while existing rows move into chunks: 10-30 s per million rows.
-- Needs: TimescaleDB, any licence.
--
-- token_cache_optimization is partitioned by run_id because TimescaleDB requires the partitioning column in every
-- unique key, and its key is (query_id, run_id). A legacy table that already is a hypertable keeps its chunks; new
-- ones cover one day.

-- A database that was a plain PostgreSQL when it was migrated has triggers that log changed hours (postgresql/0001). This
-- engine computes the sums in its own way.
-- include: fragments/hours_by_view.sql

-- A legacy table that was upgraded on plain PostgreSQL may still have its old primary key. TimescaleDB refuses a unique
-- key without the partitioning column, so the key of this library replaces it.
DO $$
DECLARE
    old RECORD;
BEGIN
    FOR old IN
        SELECT n.name, c.conname, n.key, n.unique_index
        FROM (
            VALUES
                ('llm_interactions', 'time', 'query_id, run_id, time, interaction_id', 'idx_llm_key'),
                ('token_cache_optimization', 'run_id', 'query_id, run_id', 'idx_token_cache_optimization_key')
        ) AS n (name, dimension, key, unique_index)
        JOIN pg_constraint AS c ON c.conrelid = to_regclass(n.name) AND c.contype = 'p'
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_attribute AS a
            WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = n.dimension
        )
    LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', old.name, old.conname);
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%s)', old.name, old.key);
        EXECUTE format('DROP INDEX IF EXISTS %I', old.unique_index);
    END LOOP;
END
$$;

-- The user's triggers are removed while rows move, so that they do not fire, and created again in this transaction.
CREATE TEMPORARY TABLE rlm_cachetrack_triggers ON COMMIT DROP AS
SELECT
    t.tgrelid::regclass AS "table", t.tgname AS name, pg_get_triggerdef(t.oid) AS definition,
    obj_description(t.oid, 'pg_trigger') AS comment, t.tgenabled AS enabled
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE t.tgrelid IN (to_regclass('llm_interactions'), to_regclass('token_cache_optimization'))
  AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname NOT LIKE '\_timescaledb%';

DO $$
DECLARE
    trigger RECORD;
BEGIN
    FOR trigger IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger.name, trigger."table");
    END LOOP;
END
$$;

-- Rows cannot move while the statement that moves them reads them.
CREATE TEMPORARY TABLE rlm_cachetrack_chunk_width ON COMMIT DROP AS
SELECT make_interval(days => CASE
    WHEN max(time) - min(time) > INTERVAL '8 days'
        AND count(*) < 10000 * extract(epoch FROM max(time) - min(time)) / 86400 THEN 7
    ELSE 1
END) AS width
FROM llm_interactions;

SELECT create_hypertable(
    'llm_interactions', 'time',
    chunk_time_interval => (SELECT width FROM rlm_cachetrack_chunk_width),
    create_default_indexes => FALSE, migrate_data => TRUE, if_not_exists => TRUE
);

-- Returns the width that new chunks should have. A store that is not older than eight days has chunks of one day.
CREATE FUNCTION rlm_cachetrack_chunk_interval() RETURNS INTERVAL
LANGUAGE sql STABLE AS $$
    SELECT make_interval(days => CASE
        WHEN EXISTS (SELECT FROM llm_interactions WHERE time < now() - INTERVAL '8 days')
            AND 70000 > (
                SELECT count(*)
                FROM (
                    SELECT FROM llm_interactions
                    WHERE time >= now() - INTERVAL '8 days' AND time < now() - INTERVAL '1 day'
                    LIMIT 70000
                ) AS week
            ) THEN 7
        ELSE 1
    END);
$$;

SELECT set_chunk_time_interval('llm_interactions', INTERVAL '1 day');

SELECT create_hypertable(
    'token_cache_optimization', 'run_id',
    chunk_time_interval => INTERVAL '1 year', create_default_indexes => FALSE, migrate_data => TRUE,
    if_not_exists => TRUE
);

DO $$
DECLARE
    trigger RECORD;
BEGIN
    FOR trigger IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE trigger.definition;
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', trigger.name, trigger."table", trigger.comment);
        IF trigger.enabled <> 'O' THEN
            EXECUTE format(
                'ALTER TABLE %s ENABLE %s TRIGGER %I', trigger."table",
                CASE trigger.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, trigger.name
            );
        END IF;
    END LOOP;
END
$$;

-- Sums per hour (UTC), provider, model and service tier. On the community edition a continuous aggregate with the same
-- name and columns replaces this view (timescale/0002). Columns: see postgresql/0001.
CREATE OR REPLACE VIEW cache_usage_hourly AS
SELECT
    date_bin(INTERVAL '1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS bucket,
    -- include: fragments/hourly_sums.sql
FROM llm_interactions
GROUP BY 1, 2, 3, 4;

DROP VIEW IF EXISTS rlm_cachetrack_live_sums;
DROP TABLE IF EXISTS rlm_cachetrack_hourly_sums, rlm_cachetrack_changed_hours;

-- 0006 hypertables: both growing tables become hypertables, where they are not yet.
-- Why:   chunks by day keep the indexes of the present small, and let old days be compressed or dropped whole.
-- Lock:  ACCESS EXCLUSIVE on the two tables while existing rows move into chunks: 10-30 s a million rows.
-- For:   TimescaleDB.
--
-- A hypertable that is there keeps its chunks; new ones are of one day.

-- Triggers of theirs are meant for new calls, not for rows that move: they are taken off and put back.

CREATE TEMPORARY TABLE rlm_cachetrack_triggers ON COMMIT DROP AS
SELECT
    t.tgrelid::regclass AS standing, t.tgname, pg_get_triggerdef(t.oid) AS made,
    obj_description(t.oid, 'pg_trigger') AS said, t.tgenabled AS enabled
FROM pg_trigger AS t
JOIN pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE t.tgrelid IN (to_regclass('llm_interactions'), to_regclass('token_cache_optimization'))
  AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname NOT LIKE '\_timescaledb%';

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', theirs.tgname, theirs.standing);
    END LOOP;
END
$$;

SELECT create_hypertable(
    'llm_interactions', 'time',
    chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE, migrate_data => TRUE, if_not_exists => TRUE
);

SELECT set_chunk_time_interval('llm_interactions', INTERVAL '1 day');

SELECT create_hypertable(
    'token_cache_optimization', 'run_id',
    chunk_time_interval => INTERVAL '1 year', create_default_indexes => FALSE, migrate_data => TRUE,
    if_not_exists => TRUE
);

DO $$
DECLARE
    theirs RECORD;
BEGIN
    FOR theirs IN SELECT * FROM rlm_cachetrack_triggers LOOP
        EXECUTE theirs.made;
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', theirs.tgname, theirs.standing, theirs.said);
        IF theirs.enabled <> 'O' THEN
            EXECUTE format(
                'ALTER TABLE %s ENABLE %s TRIGGER %I', theirs.standing,
                CASE theirs.enabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, theirs.tgname
            );
        END IF;
    END LOOP;
END
$$;

-- 0004 key: what every call must have, the key by which a call is stored once, and the indexes.
-- Why:   one key that serves the read of a run, holds on a hypertable over time, and on Citus by query_id. Calls without a
--        query or run get 'adhoc' and their own time.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions while the indexes are built: 5-15 s a million rows.
--
-- A primary key that is there stays, with a unique index beside it; but TimescaleDB refuses one without the time, and
-- there it makes way.

LOCK TABLE llm_interactions IN SHARE ROW EXCLUSIVE MODE;

UPDATE llm_interactions
SET time = coalesce(time, start_time, end_time, now()),
    query_id = coalesce(query_id, 'adhoc'),
    run_id = coalesce(run_id, time, start_time, end_time, now()),
    interaction_id = coalesce(interaction_id, gen_random_uuid()),
    model = coalesce(model, 'unknown'),
    success = coalesce(success, error_type IS NULL AND error_message IS NULL)
WHERE time IS NULL
   OR query_id IS NULL
   OR run_id IS NULL
   OR interaction_id IS NULL
   OR model IS NULL
   OR success IS NULL;

ALTER TABLE llm_interactions
    ALTER COLUMN time SET NOT NULL,
    ALTER COLUMN interaction_id SET NOT NULL,
    ALTER COLUMN query_id SET NOT NULL,
    ALTER COLUMN run_id SET NOT NULL,
    ALTER COLUMN model SET NOT NULL,
    ALTER COLUMN success SET NOT NULL;

DO $$
DECLARE
    old_key TEXT;
    old_columns SMALLINT[];
BEGIN
    SELECT c.conname, c.conkey INTO old_key, old_columns
    FROM pg_constraint AS c
    WHERE c.conrelid = to_regclass('llm_interactions') AND c.contype = 'p';
    IF old_key IS NOT NULL
        AND EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')
        AND NOT EXISTS (
            SELECT 1 FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass('llm_interactions') AND a.attname = 'time' AND a.attnum = ANY (old_columns)
        )
    THEN
        EXECUTE format('ALTER TABLE llm_interactions DROP CONSTRAINT %I', old_key);
        old_key := NULL;
    END IF;
    IF old_key IS NULL THEN
        ALTER TABLE llm_interactions ADD PRIMARY KEY (query_id, run_id, time, interaction_id);
    ELSE
        CREATE UNIQUE INDEX IF NOT EXISTS idx_llm_key
            ON llm_interactions (query_id, run_id, time, interaction_id);
    END IF;
END
$$;

CREATE INDEX IF NOT EXISTS idx_llm_cached_tokens ON llm_interactions (cached_tokens DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_total_cost ON llm_interactions (total_cost DESC, time DESC);
CREATE INDEX IF NOT EXISTS idx_llm_time ON llm_interactions (time DESC);

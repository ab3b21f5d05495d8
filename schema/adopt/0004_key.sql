-- 0004 key: the key by which a call is stored once, and the indexes.
-- Why:   one key that serves the read of a run, holds on a hypertable over time, and on Citus by query_id.
-- Lock:  ACCESS EXCLUSIVE on llm_interactions while the indexes are built: 5-15 s a million rows.
--
-- A primary key that is there stays, with a unique index beside it; but TimescaleDB refuses one without the time, and
-- Citus one without the query_id: there it makes way.

DO $$
DECLARE
    needed TEXT := CASE
        WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') THEN 'time'
        WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') THEN 'query_id'
    END;
    old_key TEXT;
    old_columns SMALLINT[];
BEGIN
    SELECT c.conname, c.conkey INTO old_key, old_columns
    FROM pg_constraint AS c
    WHERE c.conrelid = to_regclass('llm_interactions') AND c.contype = 'p';
    IF old_key IS NOT NULL
        AND needed IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass('llm_interactions') AND a.attname = needed AND a.attnum = ANY (old_columns)
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

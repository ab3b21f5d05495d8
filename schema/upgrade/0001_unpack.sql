-- 0001 unpack: move a legacy hypertable out of the columnstore.
-- Why:   TimescaleDB refuses new keys and NOT NULL on a hypertable with a columnstore. timescale/0002 sets up this
--        library's columnstore, and its policy compresses old days again.
-- Lock:  ACCESS EXCLUSIVE on the chunks, one after the other. Needs disk space for the uncompressed table.
--
-- Does nothing without TimescaleDB, or where no columnstore (compression) is set up.

DO $$
DECLARE
    chunk REGCLASS;
BEGIN
    IF to_regclass('timescaledb_information.hypertables') IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT 1
        FROM timescaledb_information.hypertables AS h
        JOIN pg_class AS t ON t.relname = h.hypertable_name
        JOIN pg_namespace AS n ON n.oid = t.relnamespace AND n.nspname = h.hypertable_schema
        WHERE t.oid = to_regclass('llm_interactions') AND h.compression_enabled
    ) THEN
        RETURN;
    END IF;
    PERFORM remove_compression_policy('llm_interactions', if_exists => TRUE);
    FOR chunk IN
        SELECT format('%I.%I', c.chunk_schema, c.chunk_name)::regclass
        FROM timescaledb_information.chunks AS c
        JOIN pg_class AS t ON t.relname = c.hypertable_name
        JOIN pg_namespace AS n ON n.oid = t.relnamespace AND n.nspname = c.hypertable_schema
        WHERE t.oid = to_regclass('llm_interactions') AND c.is_compressed
    LOOP
        PERFORM decompress_chunk(chunk);
    END LOOP;
    ALTER TABLE llm_interactions SET (timescaledb.compress = FALSE);
END
$$;

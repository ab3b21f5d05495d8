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

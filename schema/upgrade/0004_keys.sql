-- 0004 keys: add the keys that prevent duplicate calls and runs.
-- Why:   a batch that is sent again must not create a second row (ON CONFLICT).
-- Lock:  ACCESS EXCLUSIVE on the tables while the index of the key is built: 5-15 s per million calls.
--
-- An existing primary key is kept, and a unique index is added. If TimescaleDB refuses that key because it lacks the
-- partitioning column, timescale/0001 replaces it.

DO $$
DECLARE
    wanted RECORD;
    old_key TEXT[];
BEGIN
    FOR wanted IN
        SELECT n.*, t.oid
        FROM (
            VALUES
                ('llm_interactions', ARRAY['query_id', 'run_id', 'time', 'interaction_id'], 'idx_llm_key', 'time'),
                (
                    'token_cache_optimization', ARRAY['query_id', 'run_id'], 'idx_token_cache_optimization_key',
                    'run_id'
                ),
                ('query_run_summaries', ARRAY['query_id', 'run_id'], 'idx_query_run_summaries_key', NULL)
        ) AS n (name, columns, unique_index, dimension)
        JOIN pg_class AS t ON t.oid = to_regclass(n.name)
    LOOP
        SELECT ARRAY(
            SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        )
        INTO old_key
        FROM pg_constraint AS c
        WHERE c.conrelid = wanted.oid AND c.contype = 'p';
        IF NOT FOUND THEN
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%s)', wanted.name, array_to_string(wanted.columns, ', '));
        ELSIF wanted.dimension <> ALL (old_key)
            AND EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')
        THEN
            CONTINUE;
        ELSIF NOT EXISTS (
            SELECT 1
            FROM pg_index AS i
            WHERE i.indrelid = wanted.oid AND i.indisunique AND i.indisvalid
              AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(wanted.columns)
              AND wanted.columns <@ ARRAY(
                  SELECT a.attname::text FROM pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
              )
        ) THEN
            EXECUTE format(
                'CREATE UNIQUE INDEX %I ON %I (%s)',
                wanted.unique_index, wanted.name, array_to_string(wanted.columns, ', ')
            );
        END IF;
    END LOOP;
END
$$;

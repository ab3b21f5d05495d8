-- columnstore_changed: Return the chunks between two times that contain changed calls, which are outside of the
--             columnstore. TimescaleDB only.
-- Parameters: first, last TIMESTAMPTZ, both included.
-- Result:     one row per chunk, oldest first: schema, name, packed_schema, packed_name TEXT: of the chunk and of its
--             part in the columnstore.
SELECT i.chunk_schema::text AS schema, i.chunk_name::text AS name, n.nspname::text AS packed_schema, k.relname::text AS packed_name
FROM timescaledb_information.chunks AS i
CROSS JOIN LATERAL (SELECT to_regclass(quote_ident(i.chunk_schema) || '.' || quote_ident(i.chunk_name)) AS oid) AS c
JOIN _timescaledb_catalog.compression_settings AS s ON s.relid = c.oid
JOIN pg_class AS k ON k.oid = to_regclass(to_jsonb(s) ->> 'compress_relid')
JOIN pg_namespace AS n ON n.oid = k.relnamespace
WHERE to_regclass(quote_ident(i.hypertable_schema) || '.' || quote_ident(i.hypertable_name)) = to_regclass('llm_interactions')
  AND i.is_compressed
  AND i.range_end > %(first)s::timestamptz AND i.range_start <= %(last)s::timestamptz
  AND pg_relation_size(c.oid) > 0
ORDER BY i.range_start;

-- store_run_start: Store the start of a run; a stored run keeps its status, and its metadata and tags if it has
--             any.
-- Parameters: query_id TEXT, run_id TIMESTAMPTZ, time TIMESTAMPTZ, metadata, tags JSONB.
-- Result:     none.
INSERT INTO query_run_summaries AS s (query_id, run_id, start_time, metadata, tags)
VALUES (%(query_id)s, %(run_id)s, %(time)s, %(metadata)s, %(tags)s)
ON CONFLICT (query_id, run_id) DO UPDATE SET
    start_time = least(s.start_time, excluded.start_time),
    metadata = coalesce(s.metadata, excluded.metadata),
    tags = coalesce(s.tags, excluded.tags);

-- run_page_filters: condition that selects the runs of the list of runs.
-- Needs:  query_run_summaries AS s.
-- Parameters: search TEXT: part of the query_id, as a LIKE pattern without regard to case; begun_since, begun_until
--             TIMESTAMPTZ: begun_since <= start_time < begun_until; tags JSONB: the tags of the run or of one of its
--             calls; model, provider TEXT: of one of its calls; NULL for any.
(%(search)s::text IS NULL OR s.query_id ILIKE %(search)s::text)
  AND (%(begun_since)s::timestamptz IS NULL OR s.start_time >= %(begun_since)s::timestamptz)
  AND (%(begun_until)s::timestamptz IS NULL OR s.start_time < %(begun_until)s::timestamptz)
  AND (
      (%(model)s::text IS NULL AND %(provider)s::text IS NULL AND %(tags)s::jsonb IS NULL)
      OR (%(model)s::text IS NULL AND %(provider)s::text IS NULL AND s.tags @> %(tags)s::jsonb)
      OR EXISTS (
          SELECT 1
          FROM llm_interactions AS i
          WHERE i.query_id = s.query_id AND i.run_id = s.run_id
            AND i.time >= coalesce(s.first_call_time, '-infinity') AND i.time <= coalesce(s.last_call_time, 'infinity')
            AND (%(model)s::text IS NULL OR i.model = %(model)s::text)
            AND (%(provider)s::text IS NULL OR i.provider = %(provider)s::text)
            AND (%(tags)s::jsonb IS NULL OR s.tags @> %(tags)s::jsonb OR i.tags @> %(tags)s::jsonb)
      )
  )

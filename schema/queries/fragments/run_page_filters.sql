-- run_page_filters: condition that selects runs by the filters that all reading commands have.
-- Needs:  query_run_summaries AS s.
-- Parameters: since, until TIMESTAMPTZ: runs with since <= start_time < until; query_id TEXT: of the run; tags JSONB:
--             the tags of the run or of one of its calls; model, provider TEXT: of one of its calls; NULL for any.
(%(query_id)s::text IS NULL OR s.query_id = %(query_id)s::text)
  AND (%(since)s::timestamptz IS NULL OR s.start_time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR s.start_time < %(until)s::timestamptz)
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

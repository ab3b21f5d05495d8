-- before_cursor: condition that selects the calls after the end of a page, newest first.
-- Needs:  rows of llm_interactions.
-- Parameters: before_time TIMESTAMPTZ, before_id UUID: time and interaction_id of the last row of the page; NULL for the
--             first page. model TEXT; NULL for any.
time <= coalesce(%(before_time)s::timestamptz, 'infinity')
  AND (
      %(before_time)s::timestamptz IS NULL
      OR (time, interaction_id) < (%(before_time)s::timestamptz, %(before_id)s::uuid)
  )
  AND (%(model)s::text IS NULL OR model = %(model)s::text)

-- export_filters: condition that selects the calls of an export.
-- Needs:  rows of llm_interactions.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; query_id, model TEXT; NULL for any.
time >= coalesce(%(since)s::timestamptz, '-infinity')
  AND time < coalesce(%(until)s::timestamptz, 'infinity')
  AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
  AND (%(model)s::text IS NULL OR model = %(model)s::text)

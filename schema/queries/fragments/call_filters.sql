-- call_filters: condition that selects calls by time, model and query.
-- Needs:  rows of llm_interactions.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; model, query_id TEXT; NULL for any.
(%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
  AND (%(model)s::text IS NULL OR model = %(model)s::text)
  AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)

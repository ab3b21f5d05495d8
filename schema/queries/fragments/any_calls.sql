-- any_calls: condition that selects calls by the filters that all reading commands have.
-- Needs:  rows of llm_interactions.
-- Parameters: those of call_filters; provider TEXT, tags JSONB: only calls with these; NULL for any.
-- include: fragments/call_filters.sql
  AND (%(provider)s::text IS NULL OR provider = %(provider)s::text)
  AND (%(tags)s::jsonb IS NULL OR tags @> %(tags)s::jsonb)

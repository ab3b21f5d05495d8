-- repriceable: condition that selects the calls of a re-pricing; calls whose prices were given by hand keep them.
-- Needs:  rows of llm_interactions.
-- Parameters: those of call_filters.
-- include: fragments/call_filters.sql
  AND (price_source IS NULL OR price_source = 'provider' OR price_source LIKE 'yaml:%%' OR price_source LIKE 'genai-prices:%%')

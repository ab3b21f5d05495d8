-- repriceable: condition that selects the calls of a re-pricing; calls whose prices were given by hand keep them.
-- Needs:  rows of llm_interactions.
-- Parameters: those of call_filters.
-- include: fragments/call_filters.sql
  AND -- include: fragments/listed_price.sql

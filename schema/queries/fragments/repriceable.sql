-- repriceable: condition that selects the calls of a re-pricing.
-- Needs:  rows of llm_interactions.
-- Parameters: those of call_filters; include_given BOOLEAN: also calls whose prices were given by hand; unpriced BOOLEAN:
--             only calls that used tokens and have no cost.
-- include: fragments/call_filters.sql
  AND (NOT %(unpriced)s::boolean OR (total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)))
  AND (%(include_given)s::boolean OR -- include: fragments/listed_price.sql
  )

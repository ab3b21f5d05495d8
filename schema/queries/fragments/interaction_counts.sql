-- interaction_counts: the numbers of calls by cache use, of failed calls, and of calls without a known cost.
--             A failed call without usage counts as failed only: it did not leave out anything.
-- Needs:  rows of llm_interactions.
count(*) AS total_interactions,
count(*) FILTER (WHERE cached_tokens > 0) AS interactions_with_cache,
count(*) FILTER (WHERE cached_tokens = 0) AS interactions_without_cache,
count(*) FILTER (WHERE cached_tokens IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS interactions_not_reported,
count(*) FILTER (WHERE NOT success) AS failed_interactions,
count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_interactions

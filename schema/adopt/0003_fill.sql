-- 0003 fill: what follows from what is there.
-- Why:   totals and what a call would have cost uncached are read from the rows, not computed each time.
-- Lock:  the rows that change; about 5-15 s a million of them.
--
-- original_cost is what the call would have cost with nothing cached: with 0 cached tokens it is what it did cost.

UPDATE llm_interactions
SET total_tokens = coalesce(total_tokens, prompt_tokens + completion_tokens),
    uncached_prompt_tokens = coalesce(uncached_prompt_tokens, prompt_tokens - cached_tokens),
    original_cost = coalesce(original_cost, CASE WHEN cached_tokens = 0 THEN total_cost END)
WHERE (total_tokens IS NULL AND prompt_tokens + completion_tokens IS NOT NULL)
   OR (uncached_prompt_tokens IS NULL AND prompt_tokens - cached_tokens IS NOT NULL)
   OR (original_cost IS NULL AND cached_tokens = 0 AND total_cost IS NOT NULL);

-- 0003 fill: what every call must have, and what follows from what is there.
-- Why:   the key needs query_id, run_id and time. Calls without a query or run get 'adhoc' and their own time.
-- Lock:  the rows that change; about 5-15 s a million of them.
--
-- original_cost is what the call would have cost with nothing cached: with 0 cached tokens it is what it did cost.

UPDATE llm_interactions
SET time = coalesce(time, start_time, end_time, now()),
    query_id = coalesce(query_id, 'adhoc'),
    run_id = coalesce(run_id, time, start_time, end_time, now()),
    interaction_id = coalesce(interaction_id, gen_random_uuid()),
    model = coalesce(model, 'unknown'),
    success = coalesce(success, error_type IS NULL AND error_message IS NULL),
    total_tokens = coalesce(total_tokens, prompt_tokens + completion_tokens),
    uncached_prompt_tokens = coalesce(uncached_prompt_tokens, prompt_tokens - cached_tokens),
    original_cost = coalesce(original_cost, CASE WHEN cached_tokens = 0 THEN total_cost END)
WHERE time IS NULL
   OR query_id IS NULL
   OR run_id IS NULL
   OR interaction_id IS NULL
   OR model IS NULL
   OR success IS NULL
   OR (total_tokens IS NULL AND prompt_tokens + completion_tokens IS NOT NULL)
   OR (uncached_prompt_tokens IS NULL AND prompt_tokens - cached_tokens IS NOT NULL)
   OR (original_cost IS NULL AND cached_tokens = 0 AND total_cost IS NOT NULL);

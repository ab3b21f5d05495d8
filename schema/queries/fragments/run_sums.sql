-- run_sums: the number of calls of a run, their tokens and their cost in USD.
-- Needs:  rows of llm_interactions.
count(*) AS total_interactions,
count(*) FILTER (WHERE NOT success) AS failed_interactions,
coalesce(sum(prompt_tokens), 0)::bigint AS total_prompt_tokens,
coalesce(sum(completion_tokens), 0)::bigint AS total_completion_tokens,
coalesce(sum(cached_tokens), 0)::bigint AS total_cached_tokens,
sum(total_cost) AS total_cost

-- cache_hit_rate: cached tokens / prompt tokens (0-1) of the calls that reported their cache use; NULL if none did.
-- Needs:  rows of llm_interactions.
sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL)::double precision
    / nullif(sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), 0)

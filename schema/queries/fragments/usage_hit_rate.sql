-- usage_hit_rate: cached tokens / prompt tokens (0-1) of a group of usage parts; NULL if no call reported its cache use.
-- Needs:  rows with the columns of usage_of_hours.
sum(rated_cached_tokens)::double precision / nullif(sum(reported_prompt_tokens), 0)::double precision

-- unpriced_models: Return the models of the unpriced calls, and why they have no price; most calls first, at most 1,000.
-- Parameters: those of fragments/any_calls.sql.
-- Result:     one row per model, provider, service tier, reason and unit: model TEXT, provider TEXT, service_tier TEXT,
--             unpriced_reason TEXT, unit TEXT (how calls without tokens are billed: seconds, characters, images,
--             pages or text_messages; NULL: tokens),
--             interactions BIGINT, tokens BIGINT (prompt and completion), last_time TIMESTAMPTZ.
--             Without calls that failed and used no tokens.
-- Served by idx_llm_unpriced. In the columnstore it reads the raw table.
SELECT
    model, provider, service_tier, unpriced_reason,
    CASE WHEN prompt_tokens IS NULL THEN
        CASE
            WHEN token_details ? 'seconds' THEN 'seconds'
            WHEN token_details ? 'characters' THEN 'characters'
            WHEN token_details ? 'images' THEN 'images'
            WHEN token_details ? 'pages' THEN 'pages'
            WHEN token_details ? 'text_messages' THEN 'text_messages'
        END
    END AS unit,
    count(*) AS interactions,
    coalesce(sum(coalesce(prompt_tokens, 0)::bigint + coalesce(completion_tokens, 0)), 0)::bigint AS tokens,
    max(time) AS last_time
FROM llm_interactions
WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)
  AND -- include: fragments/any_calls.sql
GROUP BY model, provider, service_tier, unpriced_reason, unit
ORDER BY interactions DESC, model, provider, service_tier, unpriced_reason, unit
LIMIT 1000;

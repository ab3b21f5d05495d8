-- reconcile_calls: Return recorded calls, tokens and cost by day, model and service tier; and the cost of hosted tools.
-- Parameters: since, until TIMESTAMPTZ: calls with since <= time < until; providers TEXT[]: only calls of these and of
--             unknown providers. apis TEXT[]: only calls of these APIs, and of those that begin with one and a dot; NULL
--             for any.
-- Result:     day TIMESTAMPTZ (UTC), model, service_tier TEXT, interactions, prompt_tokens, cached_tokens,
--             completion_tokens BIGINT, total_cost (USD, 0 if no call is priced; without hosted tools), unpriced_interactions
--             BIGINT. A hosted tool has rows of its own: its name as model, counts of 0.
WITH calls AS (
    SELECT
        date_trunc('day', c.time, 'UTC') AS day, c.model, c.service_tier, c.prompt_tokens, c.cached_tokens,
        c.completion_tokens, c.total_cost, c.charges,
        coalesce((
            SELECT sum((charge ->> 'amount')::double precision)
            FROM jsonb_array_elements(c.charges) AS charge
            WHERE charge ->> 'item' IN ('web_search', 'file_search', 'image_generation')
        ), 0) AS tool_cost
    FROM llm_interactions AS c
    WHERE c.time >= %(since)s::timestamptz AND c.time < %(until)s::timestamptz
      AND (c.success OR c.prompt_tokens IS NOT NULL)
      AND (c.provider IS NULL OR c.provider = 'unknown' OR c.provider = ANY(%(providers)s))
      AND (
          %(apis)s::text[] IS NULL OR c.api IS NULL
          OR EXISTS (SELECT 1 FROM unnest(%(apis)s::text[]) AS name WHERE c.api = name OR c.api LIKE name || '.%%')
      )
)
SELECT
    day, model, service_tier,
    count(*) AS interactions,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
    coalesce(sum(total_cost - tool_cost), 0) AS total_cost,
    count(*) FILTER (WHERE total_cost IS NULL) AS unpriced_interactions
FROM calls
GROUP BY 1, 2, 3
UNION ALL
SELECT
    day, charge ->> 'item', NULL, 0, 0, 0, 0, sum((charge ->> 'amount')::double precision), 0
FROM calls
CROSS JOIN LATERAL jsonb_array_elements(charges) AS charge
WHERE total_cost IS NOT NULL AND charge ->> 'item' IN ('web_search', 'file_search', 'image_generation')
GROUP BY 1, 2
ORDER BY 1, 2, 3;

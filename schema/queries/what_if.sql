-- what_if: Return the cost of calls at other prices, or with another share of cached tokens. At other prices without the
--          calls of what_if_detailed.
-- Parameters: those of fragments/any_calls.sql and fragments/rates.sql; own BOOLEAN: use each call's own prices
--             instead of rates; hit_rate: 0-1, NULL for the recorded cached tokens.
-- Result:     one row per model, highest cost first: total_interactions: calls that used tokens; compared_interactions:
--             calls whose costs are both known; and over these: actual_cost, what_if_cost (USD), prompt_tokens,
--             cached_tokens, what_if_cached_tokens, completion_tokens.
-- Without a bound it reads the raw table.
WITH -- include: fragments/rates.sql,
calls AS (
    SELECT
        model, coalesce(provider, '') AS provider, coalesce(service_tier, '') AS service_tier, time,
        prompt_tokens::double precision AS prompt_tokens,
        coalesce(completion_tokens, 0)::double precision AS recorded_completion,
        coalesce(cached_tokens, 0)::double precision AS recorded_cached,
        coalesce(cache_write_tokens, 0)::double precision AS recorded_written,
        coalesce(prompt_tokens * %(hit_rate)s::double precision, cached_tokens, 0) AS what_if_cached,
        prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price, total_cost,
        request_options, token_details, tool_usage
    FROM llm_interactions
    WHERE -- include: fragments/any_calls.sql
      AND prompt_tokens IS NOT NULL
),
priced AS (
    SELECT
        c.*,
        least(c.recorded_written, c.prompt_tokens - c.what_if_cached) AS what_if_written,
        CASE WHEN %(own)s THEN c.prompt_token_price ELSE r.prompt * f.factor END AS new_prompt_price,
        CASE WHEN %(own)s THEN c.cached_token_price ELSE r.cached * f.factor END AS new_cached_price,
        CASE WHEN %(own)s THEN c.cache_write_token_price ELSE r.cache_write * f.factor END AS new_cache_write_price,
        CASE WHEN %(own)s THEN coalesce(c.completion_token_price, 0) ELSE r.completion * f.factor END AS new_completion_price
    FROM calls AS c
    LEFT JOIN rates AS r
      ON r.model = c.model AND r.provider = c.provider AND r.service_tier = c.service_tier
     AND c.time >= r.valid_from AND c.time <= r.valid_to
     AND c.prompt_tokens > r.above AND c.prompt_tokens <= r.up_to
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.request_options IS NULL THEN 1 ELSE
            -- include: fragments/price_factor.sql
        END AS factor
    ) AS f
    -- At a call's own prices, tools, audio and long retention cost the same at any hit rate.
    WHERE %(own)s OR r.source IS NULL
       OR (r.by_tokens_alone AND c.token_details IS NULL AND c.tool_usage IS NULL)
),
changed AS (
    -- At a call's own prices its recorded cost is kept, and only the difference in tokens is priced.
    SELECT
        *,
        CASE WHEN %(own)s THEN recorded_cached + recorded_written ELSE prompt_tokens END
            - what_if_cached - what_if_written AS uncached_tokens,
        what_if_cached - CASE WHEN %(own)s THEN recorded_cached ELSE 0 END AS cached_tokens,
        what_if_written - CASE WHEN %(own)s THEN recorded_written ELSE 0 END AS cache_write_tokens,
        CASE WHEN %(own)s THEN 0 ELSE recorded_completion END AS completion_tokens,
        CASE WHEN %(own)s THEN total_cost ELSE 0 END AS kept_cost
    FROM priced
),
costed AS (
    SELECT
        model, prompt_tokens, recorded_cached, what_if_cached, recorded_completion, total_cost,
        kept_cost + -- include: fragments/token_cost.sql
        AS what_if_cost
    FROM changed
)
SELECT
    model,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE total_cost IS NOT NULL AND what_if_cost IS NOT NULL) AS compared_interactions,
    sum(total_cost) FILTER (WHERE what_if_cost IS NOT NULL) AS actual_cost,
    sum(what_if_cost) FILTER (WHERE total_cost IS NOT NULL) AS what_if_cost,
    coalesce(sum(prompt_tokens) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS prompt_tokens,
    coalesce(sum(recorded_cached) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS cached_tokens,
    coalesce(sum(what_if_cached) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS what_if_cached_tokens,
    coalesce(sum(recorded_completion) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS completion_tokens
FROM costed
GROUP BY model
ORDER BY actual_cost DESC NULLS LAST, model;

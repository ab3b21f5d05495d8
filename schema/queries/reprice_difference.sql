-- reprice_difference: what a re-pricing would change, by model.
-- Parameters: rates JSONB: prices by model, provider and service_tier ('' for NULL), valid_from <= time <= valid_to and
--             above < prompt tokens <= up_to, USD per 1,000 tokens; since, until, model, query_id as in reprice_groups.
-- Result:     a row a model, most changed first: total_interactions, changed_interactions, unpriced_before,
--             unpriced_after (of calls that used something), cost_before, cost_after (USD over the priced calls).
--             Without a bound it reads the raw table.
WITH calls AS (
    SELECT
        query_id, run_id, time, interaction_id, model, provider, service_tier, success, prompt_tokens, cached_tokens,
        cache_write_tokens, completion_tokens, prompt_token_price, cached_token_price, cache_write_token_price,
        completion_token_price, total_cost, original_cost, price_source
    FROM llm_interactions
    WHERE (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND (price_source IS NULL OR price_source = 'provider' OR price_source LIKE 'yaml:%%' OR price_source LIKE 'genai-prices:%%')
),
rates AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset(%(rates)s::jsonb) AS r (
        model text, provider text, service_tier text, valid_from timestamptz, valid_to timestamptz,
        above integer, up_to integer, prompt double precision, cached double precision,
        cache_write double precision, completion double precision, source text, by_tokens_alone boolean
    )
),
priced AS (
    SELECT
        c.query_id, c.run_id, c.time, c.interaction_id, c.model, c.success, c.prompt_tokens,
        c.prompt_token_price, c.cached_token_price, c.cache_write_token_price, c.completion_token_price,
        c.total_cost, c.original_cost, c.price_source,
        r.prompt AS new_prompt, r.cached AS new_cached, r.cache_write AS new_cache_write,
        r.completion AS new_completion, r.source, r.by_tokens_alone,
        -- In the order of rlm_cachetrack.pricing.amounts, so that both give the same bits.
        CASE WHEN c.prompt_tokens IS NOT NULL THEN (
            greatest(c.prompt_tokens - coalesce(c.cached_tokens, 0) - coalesce(c.cache_write_tokens, 0), 0) * r.prompt
            + coalesce(c.cached_tokens, 0) * r.cached
            + coalesce(c.cache_write_tokens, 0) * r.cache_write
            + coalesce(c.completion_tokens, 0) * r.completion
        ) / 1000 END AS total,
        (c.prompt_tokens * r.prompt + coalesce(c.completion_tokens, 0) * r.completion) / 1000 AS original
    FROM calls AS c
    JOIN rates AS r
      ON r.model = c.model
     AND r.provider = coalesce(c.provider, '')
     AND r.service_tier = coalesce(c.service_tier, '')
     AND c.time >= r.valid_from AND c.time <= r.valid_to
     AND coalesce(c.prompt_tokens, 0) > r.above AND coalesce(c.prompt_tokens, 0) <= r.up_to
),
repriced AS (
    SELECT
        query_id, run_id, time, interaction_id, model, success, prompt_tokens,
        prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price,
        total_cost, original_cost, price_source,
        new_prompt, new_cached, new_cache_write, new_completion,
        CASE
            WHEN price_source = 'provider' THEN total_cost
            WHEN by_tokens_alone THEN total
        END AS new_total,
        CASE
            WHEN price_source = 'provider' THEN total_cost + (original - total)
            WHEN by_tokens_alone THEN original
        END AS new_original,
        CASE WHEN price_source = 'provider' THEN price_source ELSE source END AS new_source
    FROM priced
)
SELECT
    model,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE
        (prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price, total_cost, original_cost)
        IS DISTINCT FROM (new_prompt, new_cached, new_cache_write, new_completion, new_total, new_original)
    ) AS changed_interactions,
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_before,
    count(*) FILTER (WHERE new_total IS NULL AND (success OR prompt_tokens IS NOT NULL)) AS unpriced_after,
    sum(total_cost) AS cost_before,
    sum(new_total) AS cost_after
FROM repriced
GROUP BY model
ORDER BY abs(coalesce(sum(new_total), 0) - coalesce(sum(total_cost), 0)) DESC, model;

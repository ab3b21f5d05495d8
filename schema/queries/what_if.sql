-- what_if: what calls would have cost at other prices, or with another share of their input from the cache.
-- Parameters: rates JSONB as in reprice_difference; own BOOLEAN: take each call's own prices instead; hit_rate: 0-1, NULL for
--             what each call had; since, until TIMESTAMPTZ, model, query_id TEXT as in what_if_kinds.
-- Result:     a row a model, most costly first: total_interactions (calls that used something), compared_interactions
--             (those whose both costs are known), actual_cost, what_if_cost (USD, over these), prompt_tokens,
--             cached_tokens, what_if_cached_tokens, completion_tokens (over these, too).
--             Without a bound it reads the raw table.
WITH rates AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset(%(rates)s::jsonb) AS r (
        model text, provider text, service_tier text, valid_from timestamptz, valid_to timestamptz,
        above integer, up_to integer, prompt double precision, cached double precision,
        cache_write double precision, completion double precision, source text, by_tokens_alone boolean
    )
),
calls AS (
    SELECT
        model, coalesce(provider, '') AS provider, coalesce(service_tier, '') AS service_tier, time,
        prompt_tokens::double precision AS prompt_tokens,
        coalesce(completion_tokens, 0)::double precision AS completion_tokens,
        coalesce(cached_tokens, 0)::double precision AS cached_tokens,
        coalesce(cache_write_tokens, 0)::double precision AS written_tokens,
        coalesce(prompt_tokens * %(hit_rate)s::double precision, cached_tokens, 0) AS new_cached,
        prompt_token_price, cached_token_price, cache_write_token_price, completion_token_price,
        total_cost, price_source
    FROM llm_interactions
    WHERE (%(since)s::timestamptz IS NULL OR time >= %(since)s::timestamptz)
      AND (%(until)s::timestamptz IS NULL OR time < %(until)s::timestamptz)
      AND (%(model)s::text IS NULL OR model = %(model)s::text)
      AND (%(query_id)s::text IS NULL OR query_id = %(query_id)s::text)
      AND prompt_tokens IS NOT NULL
),
priced AS (
    SELECT
        c.*,
        least(c.written_tokens, c.prompt_tokens - c.new_cached) AS new_written,
        CASE WHEN %(own)s THEN c.prompt_token_price ELSE r.prompt END AS p,
        CASE WHEN %(own)s THEN c.cached_token_price ELSE r.cached END AS h,
        CASE WHEN %(own)s THEN c.cache_write_token_price ELSE r.cache_write END AS w,
        CASE WHEN %(own)s THEN c.completion_token_price ELSE r.completion END AS o,
        %(own)s OR r.by_tokens_alone AS by_tokens_alone
    FROM calls AS c
    LEFT JOIN rates AS r
      ON r.model = c.model AND r.provider = c.provider AND r.service_tier = c.service_tier
     AND c.time >= r.valid_from AND c.time <= r.valid_to
     AND c.prompt_tokens > r.above AND c.prompt_tokens <= r.up_to
),
asked AS (
    SELECT
        model, prompt_tokens, cached_tokens, new_cached, completion_tokens, total_cost,
        CASE
            WHEN NOT by_tokens_alone THEN NULL
            -- At the prices it had, a cost that is known stays the ground: only what changes is reckoned.
            WHEN %(own)s THEN total_cost + (
                (cached_tokens + written_tokens - new_cached - new_written) * p
                + (new_cached - cached_tokens) * h + (new_written - written_tokens) * w
            ) / 1000
            ELSE (
                (prompt_tokens - new_cached - new_written) * p + new_cached * h + new_written * w
                + completion_tokens * o
            ) / 1000
        END AS what_if_cost
    FROM priced
)
SELECT
    model,
    count(*) AS total_interactions,
    count(*) FILTER (WHERE total_cost IS NOT NULL AND what_if_cost IS NOT NULL) AS compared_interactions,
    sum(total_cost) FILTER (WHERE what_if_cost IS NOT NULL) AS actual_cost,
    sum(what_if_cost) FILTER (WHERE total_cost IS NOT NULL) AS what_if_cost,
    coalesce(sum(prompt_tokens) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS prompt_tokens,
    coalesce(sum(cached_tokens) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS cached_tokens,
    coalesce(sum(new_cached) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS what_if_cached_tokens,
    coalesce(sum(completion_tokens) FILTER (WHERE total_cost + what_if_cost IS NOT NULL), 0) AS completion_tokens
FROM asked
GROUP BY model
ORDER BY actual_cost DESC NULLS LAST, model;

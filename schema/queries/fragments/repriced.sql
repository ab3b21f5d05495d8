-- repriced: CTEs that give calls their new prices and costs.
-- Needs:  CTE calls: the columns of calls_to_reprice.
-- Parameters: those of rates.
-- Result: CTE repriced: the calls with new_*_price, new_total, new_original: USD, NULL if unknown; new_source,
--         new_reason; new_charges, which is NULL here; new_excludes. A cost that the provider reported is kept.
--         The calls with is_detailed have more components than the four prices; rlm_cachetrack.analytics.planning
--         computes their new values from listed_* and the other columns of the call.
-- include: fragments/rates.sql,
listed AS (
    SELECT
        c.*,
        r.prompt AS listed_prompt, r.cached AS listed_cached, r.cache_write AS listed_cache_write,
        r.completion AS listed_completion, r.source AS listed_source, r.extras AS listed_extras,
        r.regions AS listed_regions, r.windows AS listed_windows, r.speeds AS listed_speeds,
        r.reason,
        r.source IS NOT NULL AND (NOT r.by_tokens_alone OR c.token_details IS NOT NULL OR c.tool_usage IS NOT NULL)
            AS is_detailed,
        CASE WHEN c.request_options IS NULL THEN 1 ELSE
            -- include: fragments/price_factor.sql
        END AS factor
    FROM calls AS c
    JOIN rates AS r
      ON r.model = c.model
     AND r.provider = coalesce(c.provider, '')
     AND r.service_tier = coalesce(c.service_tier, '')
     AND c.time >= r.valid_from AND c.time <= r.valid_to
     AND coalesce(c.prompt_tokens, 0) > r.above AND coalesce(c.prompt_tokens, 0) <= r.up_to
),
priced AS (
    SELECT
        listed.query_id, listed.run_id, listed.time, listed.interaction_id,
        listed_prompt * factor AS new_prompt_price, listed_cached * factor AS new_cached_price,
        listed_cache_write * factor AS new_cache_write_price, listed_completion * factor AS new_completion_price,
        greatest(prompt_tokens - coalesce(cached_tokens, 0) - coalesce(cache_write_tokens, 0), 0) AS uncached_tokens,
        coalesce(cached_tokens, 0) AS cached_tokens,
        coalesce(cache_write_tokens, 0) AS cache_write_tokens,
        coalesce(completion_tokens, 0) AS completion_tokens,
        listed AS call
    FROM listed
),
costed AS (
    SELECT
        *,
        CASE WHEN (call).prompt_tokens IS NOT NULL THEN -- include: fragments/token_cost.sql
        END AS total,
        ((call).prompt_tokens * new_prompt_price + completion_tokens * new_completion_price) / 1000 AS original
    FROM priced
),
repriced AS (
    SELECT
        (call).*,
        new_prompt_price, new_cached_price, new_cache_write_price, new_completion_price,
        CASE WHEN (call).price_source = 'provider' THEN (call).total_cost ELSE total END AS new_total,
        CASE
            WHEN (call).price_source = 'provider' THEN (call).total_cost + (original - total)
            ELSE original
        END AS new_original,
        CASE
            WHEN (call).price_source = 'provider' THEN (call).price_source
            WHEN (call).factor IS NOT NULL THEN (call).listed_source
        END AS new_source,
        NULL::jsonb AS new_charges,
        CASE
            WHEN (call).price_source = 'provider' OR ((call).prompt_tokens IS NULL AND NOT (call).success) THEN NULL
            WHEN (call).listed_source IS NULL THEN (call).reason
            WHEN (call).factor IS NULL THEN 'no price for ' || CASE
                WHEN (call).request_options ->> 'completion_window' NOT IN ('soonest', 'unknown')
                 AND NOT (call).listed_windows ? ((call).request_options ->> 'completion_window')
                THEN 'completion window ' || ((call).request_options ->> 'completion_window')
                ELSE 'speed ' || ((call).request_options ->> 'speed')
            END || ' of ' || (call).model
            WHEN (call).prompt_tokens IS NULL THEN 'the response reported no token usage'
        END AS new_reason,
        CASE
            WHEN (call).price_source IS DISTINCT FROM 'provider' AND (call).prompt_tokens IS NOT NULL
             AND (call).request_options ->> 'completion_window' = 'unknown' AND (call).listed_windows <> '{}'
            THEN '["completion_window_discount"]'::jsonb
        END AS new_excludes
    FROM costed
)

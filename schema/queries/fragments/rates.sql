-- rates: CTE with the prices of a re-pricing or a what-if.
-- Parameters: rates JSONB: prices in USD per 1,000 tokens by model, provider and service_tier ('' for NULL), valid for
--             calls with valid_from <= time <= valid_to and above < prompt tokens <= up_to.
rates AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset(%(rates)s::jsonb) AS r (
        model text, provider text, service_tier text, valid_from timestamptz, valid_to timestamptz,
        above integer, up_to integer, prompt double precision, cached double precision,
        cache_write double precision, completion double precision, source text, by_tokens_alone boolean,
        reason text, extras jsonb, regions jsonb, windows jsonb, speeds jsonb
    )
)

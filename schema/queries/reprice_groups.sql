-- reprice_groups: Return the models, providers and service tiers of the calls of a re-pricing.
-- Parameters: those of fragments/repriceable.sql.
-- Result:     one row per model, provider, service tier and image_model (of generated images, or of an SVG): first_time, last_time TIMESTAMPTZ, interactions BIGINT.
-- Without a bound it reads the raw table.
SELECT
    model, provider, service_tier, coalesce(tool_usage -> 'image_generation' ->> 'model', tool_usage -> 'svg_generation' ->> 'model') AS image_model, min(time) AS first_time, max(time) AS last_time, count(*) AS interactions
FROM llm_interactions
WHERE -- include: fragments/repriceable.sql
GROUP BY model, provider, service_tier, coalesce(tool_usage -> 'image_generation' ->> 'model', tool_usage -> 'svg_generation' ->> 'model')
ORDER BY model, provider, service_tier;

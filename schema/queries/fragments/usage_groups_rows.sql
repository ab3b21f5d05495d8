-- usage_groups_rows: the rows of usage by group, in their order.
-- Needs:  CTE parts: sums with the columns of usage_of_hours, by bucket and group.
-- Parameters: unit, time_zone TEXT.
SELECT
    CASE WHEN %(unit)s::text IS NOT NULL THEN date_trunc(%(unit)s::text, bucket, %(time_zone)s::text) END AS bucket,
    model, provider, query_id, current_depth, call_site, tag_1, tag_2, tag_3, key_1, key_2, key_3,
    -- include: fragments/usage_totals.sql,
    coalesce(sum(cache_write_tokens), 0)::bigint AS total_cache_write_tokens,
    -- include: fragments/usage_hit_rate.sql AS cache_hit_rate,
    -- include: fragments/usage_costs.sql,
    sum(total_cost) / nullif(sum(priced_interactions), 0)::double precision AS avg_cost_per_interaction,
    -- include: fragments/usage_latencies.sql
FROM parts
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
ORDER BY 1, total_cost DESC NULLS LAST, total_prompt_tokens DESC, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- reprice_stage_details: Set the new values of staged calls that have more components than the four prices.
-- Parameters: calls JSONB: interaction_id and the new_* columns of each.
-- Result:     none.
UPDATE rlm_cachetrack_repriced AS s SET
    new_prompt_price = d.new_prompt_price,
    new_cached_price = d.new_cached_price,
    new_cache_write_price = d.new_cache_write_price,
    new_completion_price = d.new_completion_price,
    new_total = d.new_total,
    new_original = d.new_original,
    new_source = d.new_source,
    new_charges = d.new_charges,
    new_reason = d.new_reason,
    new_excludes = d.new_excludes
FROM jsonb_to_recordset(%(calls)s::jsonb) AS d (
    interaction_id uuid, new_prompt_price double precision, new_cached_price double precision,
    new_cache_write_price double precision, new_completion_price double precision, new_total double precision,
    new_original double precision, new_source text, new_charges jsonb, new_reason text, new_excludes jsonb
)
WHERE s.interaction_id = d.interaction_id;

-- price_factor: the factor on the token prices of a call, by region, completion window and speed, as in
--               rlm_cachetrack.pricing; NULL if the window or the speed has no price.
-- Needs:  c: a row of llm_interactions with request_options; r: a row of rates.
coalesce(
    (r.regions ->> (c.request_options ->> 'region'))::double precision,
    CASE WHEN c.request_options ? 'region' THEN (r.regions ->> '*')::double precision END,
    1
)
* CASE
    WHEN coalesce(c.request_options ->> 'completion_window', 'soonest') IN ('soonest', 'unknown') THEN 1
    ELSE (r.windows ->> (c.request_options ->> 'completion_window'))::double precision
END
* CASE
    WHEN coalesce(c.request_options ->> 'speed', 'standard') = 'standard' THEN 1
    ELSE (r.speeds ->> (c.request_options ->> 'speed'))::double precision
END

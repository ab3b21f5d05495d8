-- hourly_aggregate: Return whether cache_usage_hourly is a continuous aggregate, and who may refresh it. TimescaleDB
--             only.
-- Parameters: none.
-- Result:     one row for a continuous aggregate, none for a view. functions: schema of TimescaleDB's functions;
--             may_refresh: whether this role has the rights of its owner.
SELECT
    (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'timescaledb') AS functions,
    pg_has_role(c.relowner, 'USAGE') AS may_refresh
FROM _timescaledb_catalog.continuous_agg AS a
JOIN pg_class AS c ON c.relname = a.user_view_name
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = a.user_view_schema
WHERE c.oid = to_regclass('cache_usage_hourly');

-- engine: Return the versions of the server and of its extensions.
-- Parameters: none.
-- Result:     one row: server_version; timescale, citus: versions of the extensions in this database, NULL if not
--             installed; timescale_licence: timescale (community) or apache; timescale_loaded: whether the server has
--             loaded TimescaleDB; timescale_available: whether this role can create it in this database.
SELECT
    split_part(current_setting('server_version'), ' ', 1) AS server_version,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescale,
    (SELECT extversion FROM pg_extension WHERE extname = 'citus') AS citus,
    current_setting('timescaledb.license', TRUE) AS timescale_licence,
    -- Only superusers can read shared_preload_libraries; this setting exists if the loader was preloaded.
    current_setting('timescaledb.disable_load', TRUE) IS NOT NULL AS timescale_loaded,
    EXISTS (
        SELECT 1
        FROM pg_available_extensions AS e
        JOIN pg_available_extension_versions AS v ON v.name = e.name AND v.version = e.default_version
        WHERE e.name = 'timescaledb'
          AND (
              current_setting('is_superuser') = 'on'
              OR (v.trusted AND has_database_privilege(current_database(), 'CREATE'))
          )
    ) AS timescale_available;

#!/bin/sh
# Creates Grafana's user, with read access to the tables that rlm_cachetrack will create. Runs once, in an empty
# database.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 \
     --set password="$GRAFANA_READER_PASSWORD" --set owner="$POSTGRES_USER" <<'SQL'
CREATE ROLE cachetrack_grafana LOGIN PASSWORD :'password';
ALTER ROLE cachetrack_grafana SET default_transaction_read_only = on;
ALTER ROLE cachetrack_grafana SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO cachetrack_grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO cachetrack_grafana;
SQL

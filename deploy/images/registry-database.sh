#!/bin/sh
# PostgreSQL's first start runs this (docker-entrypoint-initdb.d): the registry gets a role and a database of its own.
# Everything else is made by `pipeline provision`, at every start.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/registry)" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE registry LOGIN PASSWORD :'password';
CREATE DATABASE registry OWNER registry;
REVOKE CONNECT ON DATABASE registry FROM PUBLIC;
SQL

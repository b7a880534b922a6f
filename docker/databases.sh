#!/bin/bash
# Run once, by the image of PostgreSQL, when its volume is empty: a user and a database for the studies, and for MLflow.
set -euo pipefail
for name in study mlflow; do
  variable="${name^^}_DB_PASSWORD"
  PASSWORD="${!variable}" psql --username "${POSTGRES_USER:-postgres}" --dbname postgres -v ON_ERROR_STOP=1 -v name="$name" <<'SQL'
\getenv password PASSWORD
CREATE USER :"name" PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" ENCODING 'UTF8' TEMPLATE template0;
SQL
done

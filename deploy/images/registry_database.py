"""Make the schema registry's role and database in a Compose stack; changes nothing the second time.

python -m deploy.images.registry_database
"""

import os
from pathlib import Path

import psycopg

from deploy.provision.registry_database import make_registry_database

SECRETS = Path("/run/secrets")
CONNECT_SECONDS = 10

if __name__ == "__main__":
    url, password, registry_password = (
        os.environ["PIPELINE_POSTGRES_ADMIN_URL"],
        *((SECRETS / name).read_text(encoding="utf-8") for name in ("postgres", "registry")),
    )
    with psycopg.connect(url, password=password, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
        make_registry_database(connection, registry_password)

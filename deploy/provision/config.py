"""Settings of `pipeline provision`."""

from pathlib import Path

from pydantic import Field, SecretStr

from common.config import KafkaSettings


class ProvisionSettings(KafkaSettings):
    """Where to provision, and with whose rights."""

    postgres_admin_url: str = Field(
        pattern=r"^postgresql://[^:@/]+@[^/]+(/[^/]*)?$",
        description="A role that may create roles and databases, with host and port; the password goes elsewhere.",
        examples=["postgresql://postgres@127.0.0.1:5432/postgres"],
    )
    postgres_admin_password: SecretStr = Field(
        default=SecretStr(""),
        description="That role's password; better: PIPELINE_POSTGRES_ADMIN_PASSWORD_FILE.",
        examples=["(a file's content)"],
    )
    role_secrets_dir: Path = Field(
        description="Folder with one file per service role, named like the role, that holds its password.",
        examples=["/run/secrets/roles"],
    )
    database: str = Field(
        default="pipeline",
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        description="The database to create and migrate.",
        examples=["pipeline"],
    )
    kafka_replication: int = Field(
        default=1, ge=1, le=5, description="Copies of each partition; 3 on a cluster of three or more.", examples=[3]
    )
    kafka_min_insync: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Copies that must have a record before it counts as written; 2 where there are three copies.",
        examples=[2],
    )
    connect_url: str = Field(
        repr=False,  # may hold a password
        default="",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="REST API of Kafka Connect, where connectors are to be put; empty: there is none.",
        examples=["http://127.0.0.1:8083"],
    )
    connect_stores: str = Field(
        default="postgres",
        pattern=r"^(postgres|mongo)(,(postgres|mongo))*$",
        description="The stores that Connect copies into, separated by commas.",
        examples=["postgres,mongo"],
    )
    connect_credentials: str = Field(
        default="/run/secrets/connect.properties",
        pattern=r"^/[^:{}]+$",
        description="Path, on Connect's workers, of the file with the lines connect_rw=PASSWORD and mongo_uri=URI.",
        examples=["/run/secrets/connect.properties"],
    )

"""Settings of `pipeline exporter`."""

from pydantic import Field

from common.config import HealthSettings, KafkaSettings, PostgresSettings


class ExporterSettings(KafkaSettings, PostgresSettings, HealthSettings):
    """Where to look, how often, and where /metrics listens."""

    exporter_seconds: float = Field(
        default=5.0, ge=1, le=60, description="Time between two looks at the broker.", examples=[5]
    )
    exporter_tables_seconds: float = Field(
        default=15.0,
        ge=1,
        le=3600,
        description="Time between two looks at the tables; longer by itself where a look takes more than a hundredth.",
        examples=[60],
    )

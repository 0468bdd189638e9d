"""Settings of inventory_service."""

from pydantic import Field

from common.config import PostgresSettings, WorkerSettings


class InventorySettings(WorkerSettings, PostgresSettings):
    """One worker: one slot, one consumer, one producer, one database connection."""

    batch_records_max: int = Field(
        default=500,
        ge=1,
        le=1000,
        description="Orders decided and published at once; 1 shows what batching brings.",
        examples=[500],
    )

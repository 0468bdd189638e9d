"""Settings of metrics_service: how long minutes wait for orders that come late."""

from pydantic import Field

from common.config import WorkerSettings


class MetricsSettings(WorkerSettings):
    """One worker, of either step: one slot, one consumer, one producer; no database."""

    metrics_lateness_seconds: float = Field(
        default=3.0,
        ge=0.0,
        le=3600.0,
        description="How long a minute stays open behind its end, by the orders' own time, for those that come late.",
        examples=[3],
    )
    metrics_idle_seconds: float = Field(
        default=2.0,
        ge=0.2,
        le=600.0,
        description="How long a partition must be quiet before the wall clock closes its minutes.",
        examples=[2],
    )
    metrics_settle_seconds: float = Field(
        default=2.0,
        ge=0.0,
        le=600.0,
        description="How long a total waits for the counts of further partitions before it is published.",
        examples=[2],
    )
    metrics_empty_minute_seconds: float = Field(
        default=30.0,
        ge=0.0,
        le=3600.0,
        description="How long after its end a minute without orders is published as zero; 0 publishes none.",
        examples=[30],
    )
    metrics_horizon_hours: int = Field(
        default=168,
        ge=1,
        le=720,
        description="How long before the newest minute the oldest lies whose total late orders still revise.",
        examples=[168],
    )

    @property
    def lateness_ms(self) -> int:
        """Return the allowed lateness."""
        return round(self.metrics_lateness_seconds * 1000)

    @property
    def idle_ms(self) -> int:
        """Return how long a partition must be quiet."""
        return round(self.metrics_idle_seconds * 1000)

    @property
    def settle_ms(self) -> int:
        """Return how long a total waits."""
        return round(self.metrics_settle_seconds * 1000)

    @property
    def empty_minute_ms(self) -> int:
        """Return how long a minute waits for its first order; 0: for ever."""
        return round(self.metrics_empty_minute_seconds * 1000)

    @property
    def horizon_ms(self) -> int:
        """Return how long totals are kept for revisions."""
        return self.metrics_horizon_hours * 3_600_000

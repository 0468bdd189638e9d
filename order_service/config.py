"""Settings of the order service's two processes."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from common.config import HealthSettings, Host, KafkaSettings, PostgresSettings, WorkerSettings


class ApiSettings(KafkaSettings, PostgresSettings, HealthSettings):
    """The HTTP API."""

    http_host: Host = Field(default="127.0.0.1", description="Where the API listens.", examples=["0.0.0.0"])  # noqa: S104 - an example for containers; the default is loopback
    http_port: int = Field(default=8080, ge=0, le=65535, description="Its port; 0 takes a free one.", examples=[8080])
    http_workers: int = Field(
        default=2, ge=1, le=64, description="Processes that answer; one per core is a good start.", examples=[2]
    )
    http_threads: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Threads per process. A request holds one while it waits for the broker; each may hold one"
        " database connection.",
        examples=[16],
    )
    http_requests_max: int = Field(
        default=0,
        ge=0,
        description="Requests after which a process is replaced by a fresh one, and up to a tenth more; 0 is never."
        " Bounds what a slow leak can come to hold.",
        examples=[100_000],
    )
    http_metrics_dir: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        default=None,
        description="Folder in which these processes share their metrics; emptied at each start. Without one, a"
        " temporary folder.",
        examples=["/run/order-api/metrics"],
    )


class ProjectionSettings(WorkerSettings, PostgresSettings):
    """The status projection."""

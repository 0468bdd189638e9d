"""Where the checker reads: broker, registry, and the database as a role that may see everything and change nothing."""

from pydantic import Field

from common.config import KafkaSettings, PostgresSettings


class CheckerSettings(KafkaSettings, PostgresSettings):
    """Addresses alone: what is judged, and how, is no setting."""


class StorySettings(CheckerSettings):
    """And where the API answers, for the story of one order."""

    api_url: str = Field(
        default="http://127.0.0.1:8080",
        pattern=r"^https?://",
        description="The order service, as its clients reach it.",
        examples=["http://127.0.0.1:8080"],
    )

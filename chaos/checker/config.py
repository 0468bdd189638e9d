"""Where the checker reads: broker, registry, and the database as a role that may see everything and change nothing."""

from common.config import KafkaSettings, PostgresSettings


class CheckerSettings(KafkaSettings, PostgresSettings):
    """Addresses alone: what is judged, and how, is no setting."""

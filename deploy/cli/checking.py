"""Where the checker reads, for the subcommands that ask it: the stack at hand, or else what the environment names."""

from pathlib import Path

from pydantic import SecretStr

from audit.config import CheckerSettings, StorySettings
from deploy.cli.stacks import running_or_named
from deploy.local import home as homes
from deploy.local.home import read_secret
from deploy.local.stack.ports import recall
from deploy.local.supervise.loopback import LOOPBACK

ROLE = "checker"
API_PORT = "api"


def checker_settings(home: Path) -> CheckerSettings:
    """Return where to read what is judged. Raises ConfigError."""
    return story_settings(home)


def story_settings(home: Path) -> StorySettings:
    """Return the addresses of the stack in `home`, which comes first, or of the environment. Raises ConfigError."""
    found = running_or_named(home, StorySettings, "pipeline")
    if isinstance(found, StorySettings):
        return found
    return StorySettings(
        namespace="",
        kafka_bootstrap=found.kafka_bootstrap,
        registry_url=found.registry_url,
        postgres_url=found.postgres_url(ROLE),
        postgres_password=SecretStr(read_secret(found.role_secrets_folder / ROLE)),
        api_url=f"http://{LOOPBACK}:{recall(found.home)[API_PORT]}",
    )


def memory_path(home: Path, settings: CheckerSettings) -> Path:
    """Return where incremental verifications keep what they remember: in the stack's folder, per namespace."""
    memory = homes.at(home).memory
    return memory.with_stem(f"{memory.stem}-{settings.namespace}") if settings.namespace else memory

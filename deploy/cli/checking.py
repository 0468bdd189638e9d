"""Where the checker reads, for the subcommands that ask it: the stack at hand, or else what the environment names."""

from pathlib import Path

from pydantic import SecretStr

from chaos.checker.config import CheckerSettings
from common.config import load
from common.errors import ConfigError
from deploy.local import home as homes
from deploy.local.home import read_secret
from deploy.local.servers import addresses_of

ROLE = "checker"


def checker_settings(home: Path) -> CheckerSettings:
    """Return the addresses of the stack in `home`, which comes first, or of the environment. Raises ConfigError."""
    try:
        addresses = addresses_of(homes.at(home))
    except ConfigError as no_stack:
        try:
            return load(CheckerSettings)
        except ConfigError as unset:
            raise ConfigError(
                f"{no_stack.message}, and the environment names no pipeline:\n{unset.message}", cure=no_stack.cure
            ) from unset
    return CheckerSettings(
        namespace="",
        kafka_bootstrap=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        postgres_url=addresses.postgres_url(ROLE),
        postgres_password=SecretStr(read_secret(addresses.role_secrets_folder / ROLE)),
    )

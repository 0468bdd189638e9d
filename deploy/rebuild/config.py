"""Settings of `pipeline rebuild`."""

from pydantic import Field

from deploy.provision.config import ProvisionSettings


class RebuildSettings(ProvisionSettings):
    """Where to rebuild, with whose rights, and what Message-IDs end in."""

    mail_from: str = Field(
        default="orders@shop.example",
        pattern=r"^[\w.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
        description="Sender's address; its domain also ends every Message-ID.",
        examples=["orders@shop.example"],
    )

    @property
    def mail_domain(self) -> str:
        """Return the domain of the Message-IDs."""
        return self.mail_from.rpartition("@")[2]

"""Settings of the notification service: the channel, and the mail server where it is mail."""

from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from common.config import Host, PostgresSettings, WorkerSettings, is_loopback

_DOMAIN = r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"


class NotificationSettings(WorkerSettings, PostgresSettings):
    """What one notification worker needs. The `mail_` and `smtp_` settings matter to the channel smtp alone."""

    notification_channel: Literal["log", "smtp"] = Field(
        default="log",
        description="How customers are notified: a line in this process's log, or mail.",
        examples=["smtp"],
    )
    mail_from: str = Field(
        default="orders@shop.example",
        pattern=r"^[\w.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
        description="Sender's address; its domain also ends every Message-ID.",
        examples=["orders@shop.example"],
    )
    mail_customer_domain: str = Field(
        default="customers.example",
        pattern=_DOMAIN,
        description="Where users have their mailbox whose id is no address: ada becomes ada@customers.example.",
        examples=["customers.example"],
    )
    smtp_host: Host = Field(default="127.0.0.1", description="Mail server.", examples=["smtp.shop.example"])
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port.", examples=[587])
    smtp_tls: Literal["off", "starttls", "implicit"] = Field(
        default="off",
        description="Plain text, upgraded by STARTTLS (port 587), or TLS from the first byte (port 465).",
        examples=["starttls"],
    )
    smtp_ca_file: str = Field(
        default="",
        description="PEM file of the authority to trust; empty: the system's.",
        examples=["/etc/ssl/shop.pem"],
    )
    smtp_user: str = Field(default="", description="Name to log in with; empty: no login.", examples=["shop"])
    smtp_password: SecretStr = Field(
        default=SecretStr(""),
        description="Its password; better: PIPELINE_SMTP_PASSWORD_FILE.",
        examples=["(a file's content)"],
    )
    smtp_answer_seconds: float = Field(
        default=20.0,
        ge=1.0,
        le=25.0,
        description="How long the server may take to accept one mail; one accepted later than that is sent again.",
        examples=[20],
    )
    smtp_attempts_max: int = Field(
        default=12,
        ge=1,
        le=1000,
        description="How often a mail is tried whose recipient the server puts off (4xx), before it is a dead letter.",
        examples=[12],
    )

    smtp_mails_per_hour_max: int = Field(
        default=60,
        ge=1,
        le=100_000,
        description="How many mails one recipient gets in an hour; an outcome beyond that is a dead letter.",
        examples=[60],
    )

    @field_validator("smtp_user")
    @classmethod
    def _never_log_in_over_plain_text(cls, user: str, others: ValidationInfo) -> str:
        if user and others.data.get("smtp_tls") == "off" and not is_loopback(str(others.data.get("smtp_host"))):
            raise ValueError("would send the password unencrypted: set PIPELINE_SMTP_TLS=starttls or implicit")
        return user

    @property
    def mail_domain(self) -> str:
        """Return the domain of the sender."""
        return self.mail_from.rpartition("@")[2]

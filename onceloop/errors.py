"""Exception vocabulary and exit codes.

A refusal that the domain expects is a value, never an exception. What stands here means that the world is broken
(`Busy`), that a record is (`Undecodable`, `Poison`), that a setting is (`ConfigError`), or that this process must not
go on (`FatalError`).
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What a process says when it ends; the numbers follow BSD's sysexits where one fits."""

    OK = 0
    VIOLATION = 1
    """What was asked has the answer no: a rule of the books is broken, a schema does not fit."""
    USAGE = 2
    """What was typed names nothing that exists, or asks for what cannot be."""
    SOFTWARE = 70
    """A broken invariant, a fork, a schema that does not fit: a restart will not cure it by itself."""
    UNAVAILABLE = 75
    """A dependency did not come back in time, a stack does not run, a twin holds our slot: later may cure it."""
    CONFIG = 78
    """A setting, an environment or a folder is wrong: a restart changes nothing."""


class Situation(StrEnum):
    """What a person has to look into before anything is changed; a service points to its own instructions for each."""

    TOPIC_RECREATED = "a topic was recreated"
    RECORDS_DELETED = "retention deleted records that the group has not read"
    TOPIC_SHORTER = "a topic ends before the committed offset"
    OFFSET_LOST = "the topic no longer has the committed offset"
    NO_OFFSET = "the group has no committed offset"


class ReportedError(Exception):
    """Anything that is reported to a person: what is wrong, and the way out.

    `cure` is one imperative sentence, or empty where there is none; `situation` names one that needs instructions.
    """

    exit_code = ExitCode.SOFTWARE

    def __init__(self, message: str, *, cure: str = "", situation: Situation | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
        self.situation = situation


class ConfigError(ReportedError):
    """A setting is missing, malformed, or breaks the guarantee together with another one."""

    exit_code = ExitCode.CONFIG


class UsageError(ReportedError):
    """What was typed names nothing that there is, or asks for what cannot be."""

    exit_code = ExitCode.USAGE


class FatalError(ReportedError):
    """This process must not go on; what it holds is settled by the next process in its slot."""

    exit_code = ExitCode.UNAVAILABLE


class ContractError(ReportedError):
    """Code that plugs into a loop broke what the loop needs of it: nothing is published, and no restart mends it."""


class Busy(Exception):  # noqa: N818 - the design's word; it is a state of the world, not an error of a record
    """A dependency does not answer: pause, keep the group membership, try the same records again later."""


class Poison(Exception):  # noqa: N818 - the field's word
    """The database rejects something in this batch for good; take less until one record stands alone.

    `error_class` names the kind for the dead letter's header.
    """

    def __init__(self, reason: str, *, error_class: str = "database") -> None:
        super().__init__(reason)
        self.error_class = error_class


class Undecodable(Exception):  # noqa: N818 - read as `except Undecodable`
    """These bytes will never become an event. `error_class` names the kind for the dead letter's header."""

    def __init__(self, error_class: str, reason: str) -> None:
        super().__init__(reason)
        self.error_class = error_class
        self.reason = reason

"""What keeps the checker from judging."""

from onceloop.errors import ExitCode, ReportedError


class StoreDownError(ReportedError):
    """Broker, registry or database does not answer: nothing was judged."""

    exit_code = ExitCode.UNAVAILABLE

"""What keeps the checker from judging."""

from onceloop.errors import ExitCode, PipelineError


class StoreDownError(PipelineError):
    """Broker, registry or database does not answer: nothing was judged."""

    exit_code = ExitCode.UNAVAILABLE

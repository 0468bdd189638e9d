"""Which section of docs/runbook.md a person is sent to."""

from onceloop.errors import ReportedError, Situation

SECTIONS = {
    Situation.TOPIC_RECREATED: "A topic was recreated",
    Situation.TOPIC_SHORTER: "A topic was recreated",
    Situation.RECORDS_DELETED: "Retention overtook a group",
    Situation.OFFSET_LOST: "Retention overtook a group",
    Situation.NO_OFFSET: "The committed offset is gone, or there is none",
}


def way_out(error: ReportedError) -> str:
    """Return the error's cure, and where the runbook says more."""
    if error.situation is None:
        return error.cure
    return f"{error.cure}: docs/runbook.md, `{SECTIONS[error.situation]}`"

"""Where a run left what topics and tables do not hold, and what it says: files -> testimony."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audit.readers.http_history import read_history
from audit.readers.logs import search
from audit.readers.snapshots import read_snapshots
from audit.readers.written import read_written
from audit.terms import Offsets
from audit.testimony import Testimony

Paths = Path | Sequence[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Files of all runs on one pipeline. Files may be shared by runs: every writer appends.

    `history`: of requests over HTTP; `written`: of records that went straight onto the topic; `snapshots`: of the
    stock; `logs`: of services, in which none of the `secrets` may stand. `complete=False` says that others put orders
    in as well. `reread=True` has another process read all topics a second time: dear, and for a pipeline at rest.
    `heads`: below these offsets nothing was lost when retention took it. `restocked`: the SKUs whose stock was changed
    by hand. `grown`: from when to when keys moved to partitions that were added, by the machine's monotonic clock.
    """

    history: Paths = ()
    written: Paths = ()
    snapshots: Paths = ()
    logs: Paths = ()
    secrets: Sequence[str] = ()
    complete: bool = True
    reread: bool = False
    heads: Offsets = field(default_factory=dict)
    restocked: Collection[str] = ()
    grown: Sequence[tuple[float, float]] = ()

    def testimony(self) -> Testimony:
        """Return what the files say. Raises OSError if one is missing."""
        log_lines, leaks = search(_paths(self.logs), self.secrets)
        return Testimony(
            requests=read_history(_paths(self.history)),
            written=read_written(_paths(self.written)),
            complete=self.complete and bool(self.history or self.written),
            snapshots=read_snapshots(_paths(self.snapshots)),
            log_lines=log_lines,
            leaks=leaks,
            heads=self.heads,
            restocked=frozenset(self.restocked),
            grown=tuple(sorted(self.grown)),
        )


def _paths(paths: Paths) -> Sequence[Path]:
    return (paths,) if isinstance(paths, Path) else paths

"""Run trials side by side and judge them: each waits far more than it works, and shares nothing with the others."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from onceloop.testing.case import Case, CaseError
from onceloop.testing.facts import Facts, Row
from onceloop.testing.guardian import Guardian
from onceloop.testing.judge import Finding, judge
from onceloop.testing.members import MissedError
from onceloop.testing.reader import SILENT
from onceloop.testing.sandbox import REQUEST_SECONDS, SESSION_SECONDS, Sandbox
from onceloop.testing.servers import Servers
from onceloop.testing.subject import Subject
from onceloop.testing.trials import Kind, Trial, run


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial.

    `skipped`: why it says nothing; `missed`: what did not happen that the trial is about; `unfit`: what is wrong with
    the case.
    """

    folder: Path
    findings: Sequence[Finding] = ()
    missed: str = ""
    skipped: str = ""
    unfit: str = ""
    facts: Facts | None = None


class Runner:
    """`folder`: for plans and the output of the processes. `jobs`: how many trials run at a time."""

    def __init__(self, servers: Servers, *, seed: int, jobs: int, new_folder: Callable[[str], Path]) -> None:
        self._servers = servers
        self._seed = seed
        self._new_folder = new_folder
        self._guardian = Guardian()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="onceloop-trial")
        self._undisturbed: dict[Case, Future[Verdict]] = {}
        self._running: dict[tuple[Case, Trial], Future[Verdict]] = {}
        self._groups: list[str] = []
        self.notes: list[str] = []
        """What is worth a look although no rule is broken."""

    def begin(self, wanted: Iterable[tuple[Case, Trial]]) -> None:
        """Start all of these, the slow ones first; an undisturbed run of each case comes before."""
        ordered = sorted(wanted, key=lambda pair: -pair[1].seconds)
        for case, _ in ordered:
            self._compare_with(case)
        for case, trial in ordered:
            self._future(case, trial)

    def verdict(self, case: Case, trial: Trial) -> Verdict:
        """Return what came of it, once it is over."""
        return self._future(case, trial).result()

    def close(self) -> None:
        """Give up what has not ended, and remove what is left of the others."""
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)
        self._guardian.close()
        self._delete_groups()

    def _compare_with(self, case: Case) -> Future[Verdict]:
        if case not in self._undisturbed:
            self._undisturbed[case] = self._pool.submit(self._try, case, Trial(Kind.UNDISTURBED), None)
        return self._undisturbed[case]

    def _future(self, case: Case, trial: Trial) -> Future[Verdict]:
        undisturbed = self._compare_with(case)
        if trial.kind is Kind.UNDISTURBED:
            return undisturbed
        if (case, trial) not in self._running:
            self._running[case, trial] = self._pool.submit(self._compare, case, trial, undisturbed)
        return self._running[case, trial]

    def _compare(self, case: Case, trial: Trial, undisturbed: Future[Verdict]) -> Verdict:
        if undisturbed.exception() or undisturbed.result().findings or undisturbed.result().facts is None:
            return Verdict(Path(), skipped="the undisturbed run failed already: see there")
        facts = undisturbed.result().facts
        assert facts is not None  # noqa: S101 - asked above
        if trial.point and trial.point.needs_output and not facts.published:
            return Verdict(Path(), skipped=f"the handler returns no records, so no process passes {trial.point.name}")
        return self._try(case, trial, tuple(facts.effects))

    def _try(self, case: Case, trial: Trial, undisturbed: Sequence[Row] | None) -> Verdict:
        folder = self._new_folder(str(trial))
        try:
            return self._judged(case, trial, undisturbed, folder)
        except MissedError as missed:
            return Verdict(folder, missed=str(missed))
        except CaseError as unfit:
            return Verdict(folder, unfit=str(unfit))

    def _judged(self, case: Case, trial: Trial, undisturbed: Sequence[Row] | None, folder: Path) -> Verdict:
        sandbox = Sandbox(
            case,
            Subject(case.app),
            self._servers,
            folder=folder,
            guardian=self._guardian,
            stopping=self._stopping,
            gated=trial.gated,
        )
        self._groups.append(sandbox.group)
        with sandbox:
            run(trial, sandbox, seed=self._seed)
            expected, expected_by = undisturbed, "an undisturbed run"
            if case.expected is not None:
                expected, expected_by = [tuple(row) for row in case.expected], "the case's `expected`"
            facts = sandbox.facts(expected, expected_by)
        if trial.kind is Kind.UNDISTURBED:
            self._note_shared_keys(case, facts)
        return Verdict(folder, findings=judge(facts), facts=facts)

    def _note_shared_keys(self, case: Case, facts: Facts) -> None:
        keys = {fed.name for fed in facts.fed}
        if len(keys) < len(facts.fed):
            self.notes.append(
                f"{case.app}: {len(facts.fed)} records have {len(keys)} keys; of those with the same key only the first"
                " is handled. Is `key` what is to happen once?"
            )

    def _delete_groups(self) -> None:
        """Delete the groups of the trials; a member that was killed leaves its group when its session ends."""
        client: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self._servers.bootstrap,
            "client.id": "onceloop-testing",
        }
        admin = AdminClient(client, logger=SILENT)
        left, deadline = self._groups, time.monotonic() + SESSION_SECONDS
        while left and time.monotonic() < deadline:
            futures = admin.delete_consumer_groups(left, request_timeout=REQUEST_SECONDS)
            left = [group for group, future in futures.items() if not _is_gone(future)]
            time.sleep(0.5 if left else 0)


def _is_gone(future: "Future[None]") -> bool:
    with suppress(KafkaException):
        future.result(REQUEST_SECONDS)
        return True
    error = future.exception()
    return isinstance(error, KafkaException) and error.args[0].name() == "GROUP_ID_NOT_FOUND"

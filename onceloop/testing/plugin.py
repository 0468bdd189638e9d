"""The pytest plugin: every `Case` of a test module becomes one test per trial.

    pytest --onceloop examples/ledger

Without `--onceloop` a case is one skipped test, and nothing but this module is imported.
"""

import os
import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onceloop.testing.case import Case
    from onceloop.testing.judge import Finding
    from onceloop.testing.runner import Runner
    from onceloop.testing.servers import Servers
    from onceloop.testing.trials import Trial

JOBS = 4
SHOWN_PER_RULE = 2
NOT_TRIED = "not tried"
"""The name of the one test that a case is without --onceloop."""
_HOW = "`pytest --onceloop` tries it on a real broker and database"
_runner = pytest.StashKey["Runner"]()


class OnceloopHooks:
    """What a conftest.py may say."""

    @pytest.hookspec(firstresult=True)
    def pytest_onceloop_servers(self, config: pytest.Config) -> "Servers | None":
        """Return the servers of this run if neither option nor environment names any; called once, before a trial.

        What it starts is to be stopped by `config.add_cleanup`. None: the default addresses.
        """


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let a conftest.py name or start servers."""
    pluginmanager.add_hookspecs(OnceloopHooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with its prefix: pytest is shared with others."""
    group = parser.getgroup("onceloop", "exactly-once trials of a handler")
    group.addoption("--onceloop", action="store_true", help="run the trials: kills, zombies, duplicates, outages")
    group.addoption("--onceloop-bootstrap", default="", metavar="HOST:PORT", help="the broker, else ONCELOOP_BOOTSTRAP")
    group.addoption("--onceloop-dsn", default="", metavar="URL", help="the PostgreSQL server, else ONCELOOP_DSN")
    group.addoption("--onceloop-seed", type=int, default=None, metavar="N", help="repeat a run's records and order")
    group.addoption("--onceloop-jobs", type=int, default=JOBS, metavar="N", help=f"trials at a time, {JOBS} by default")
    group.addoption("--onceloop-anywhere", action="store_true", help="allow servers on other machines")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, so that the header can say it."""
    if config.option.onceloop and config.option.onceloop_seed is None:
        config.option.onceloop_seed = random.randrange(10_000)  # noqa: S311 - a number to repeat, no secret


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say how to repeat the run."""
    return [f"onceloop: --onceloop-seed {config.option.onceloop_seed}"] if config.option.onceloop else []


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> "CaseCollector | None":
    """Take the cases of a module. They are recognised by name: importing their class costs every other run its time."""
    made = type(obj)
    if (made.__module__, made.__name__) != ("onceloop.testing.case", "Case"):
        return None
    return CaseCollector.from_parent(collector, name=name, case=obj)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the trials that were selected; a worker of xdist runs each when it is its turn."""
    chosen = [(item.case, item.trial) for item in session.items if isinstance(item, TrialItem)]
    if not chosen or session.config.option.collectonly:
        return
    runner = _begun(session.config)
    if not hasattr(session.config, "workerinput"):
        runner.begin(chosen)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say that cases were not tried, since pytest does so only if it is asked for reasons; and what is worth a look."""
    if runner := config.stash.get(_runner, None):
        for note in runner.notes:
            terminalreporter.write_line(f"onceloop: {note}")
    skipped = [report for report in terminalreporter.getreports("skipped") if report.nodeid.endswith(f"::{NOT_TRIED}")]
    if skipped:
        terminalreporter.write_line(f"onceloop: {len(skipped)} case{'s' * (len(skipped) > 1)} not tried. {_HOW}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what still runs, before a conftest stops its servers."""
    if runner := session.config.stash.get(_runner, None):
        runner.close()


class CaseCollector(pytest.Collector):
    """A case: its children are the trials."""

    def __init__(self, *, case: "Case", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._case = case

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one test per trial, or the one that says how to have them."""
        if not self.config.option.onceloop:
            yield SkippedItem.from_parent(self, name=NOT_TRIED)
            return
        from onceloop.testing.trials import TRIALS

        for trial in TRIALS:
            yield TrialItem.from_parent(self, name=str(trial), case=self._case, trial=trial)


class SkippedItem(pytest.Item):
    """What a case is without --onceloop."""

    def runtest(self) -> None:
        """Say how to run it."""
        pytest.skip(_HOW)


class BrokenError(Exception):
    """A trial found something; the text is what a person reads."""


class TrialItem(pytest.Item):
    """One trial of one case."""

    def __init__(self, *, case: "Case", trial: "Trial", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.trial = trial

    def runtest(self) -> None:
        """Wait for the verdict."""
        verdict = _begun(self.config).verdict(self.case, self.trial)
        if verdict.skipped:
            pytest.skip(verdict.skipped)
        if verdict.unfit:
            raise BrokenError(f"the case cannot be tried: {verdict.unfit}")
        if verdict.missed:
            said = f"This proves nothing about the handler: {verdict.missed}"
            raise BrokenError(self._text("the disturbance did not happen", [said], verdict.folder))
        if verdict.findings:
            raise BrokenError(self._text(verdict.findings[0].rule, _listed(verdict.findings), verdict.folder))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the findings alone, without a traceback of the harness."""
        if isinstance(excinfo.value, BrokenError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case stands and what was tried."""
        return self.path, None, f"{self.parent.name if self.parent else ''}: {self.trial}"

    def _text(self, summary: str, parts: list[str], folder: Path) -> str:
        where = self.nodeid.replace(self.nodeid.partition("::")[0], os.path.relpath(self.path), 1)
        again = f"pytest --onceloop --onceloop-seed {self.config.option.onceloop_seed} '{where}'"
        head = [f"{summary}: {self.case.app}, {self.trial}", self.trial.sentence()]
        foot = [f"output of the processes: {folder}", f"again: {again}"]
        return "\n\n".join(["\n".join(head), *parts, "\n".join(foot)])


def _listed(findings: "Sequence[Finding]") -> list[str]:
    """Return the first findings of each rule in words, and how many more there are."""
    texts: list[str] = []
    for rule, found in groupby(findings, key=lambda finding: finding.rule):
        alike = list(found)
        texts += map(str, alike[:SHOWN_PER_RULE])
        if len(alike) > SHOWN_PER_RULE:
            texts.append(f"broken rule: {rule}, {len(alike) - SHOWN_PER_RULE} times more")
    return texts


def _begun(config: pytest.Config) -> "Runner":
    """Return the runner of this session, on servers that answer."""
    if found := config.stash.get(_runner, None):
        return found
    from onceloop.testing import servers
    from onceloop.testing.runner import Runner

    option = config.option
    chosen = (
        servers.found(option.onceloop_bootstrap, option.onceloop_dsn)
        or config.hook.pytest_onceloop_servers(config=config)
        or servers.Servers(servers.BOOTSTRAP, servers.DSN)
    )
    try:
        servers.check(chosen, anywhere=option.onceloop_anywhere)
        servers.try_out(chosen)
    except servers.UnfitServersError as error:
        pytest.exit(f"onceloop: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    temporary: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # noqa: SLF001 - no public way

    temporary.getbasetemp()  # made here: the trials' threads would race for it

    def new_folder(name: str) -> Path:
        return temporary.mktemp("".join(each if each.isalnum() else "-" for each in name))

    runner = Runner(chosen, seed=option.onceloop_seed, jobs=option.onceloop_jobs, new_folder=new_folder)
    config.stash[_runner] = runner
    return runner

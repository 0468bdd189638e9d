"""Run workers one at a time, and let chance decide, at every step, who goes on. The same seed takes the same way.

Each worker is a thread, for it runs the product's own synchronous code, but only the one that holds the baton moves.
A step is every call into a fake and every failpoint. There it may be left standing for a while (another one goes on),
be frozen, or be killed: a killed worker never gets past a step again, so nothing that its `finally` blocks do has an
effect, as after SIGKILL.
"""

import random
import threading
from collections.abc import Callable

MILLISECOND = 0.001


class Killed(BaseException):
    """The worker is dead. No `except Exception` of the product catches it."""


class Fiber:
    """One worker's thread, waiting for the baton."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.body = body
        self.killed = False
        self.frozen = False
        self.ended = False
        self.baton = threading.Lock()
        self.baton.acquire()
        self.thread: threading.Thread | None = None


class Scheduler:
    """The baton, the clock, the chance and the trace of one interleaving.

    `meanwhile` is called between two steps: what else happens in the world. It may freeze or kill the current fiber.
    `pass_time` is called while a worker waits: what only needs time.
    """

    def __init__(self, seed: int, meanwhile: Callable[[], None], pass_time: Callable[[], None]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - chance that can be repeated is the point
        self.now = 1_700_000_000.0
        self.steps = 0
        self.trace: list[tuple[str, str]] = []
        self.fibers: list[Fiber] = []
        self.restless = 0.3
        """How likely something else happens between two steps."""
        self._meanwhile = meanwhile
        self._pass_time = pass_time
        self._current: Fiber | None = None
        self._return_at = 0
        self._home = threading.Lock()
        self._home.acquire()

    @property
    def current(self) -> Fiber:
        """Return the fiber that holds the baton."""
        assert self._current is not None  # noqa: S101 - only a worker's own code asks
        return self._current

    def start(self, name: str, body: Callable[[], None]) -> Fiber:
        """Add a worker; it moves when it is given the baton."""
        fiber = Fiber(name, body)
        fiber.thread = threading.Thread(target=self._live, args=(fiber,), name=name, daemon=True)
        self.fibers.append(fiber)
        fiber.thread.start()
        return fiber

    def note(self, who: str, what: str) -> None:
        """Write down what no process's step did: a marker, a late request, a restart."""
        self.trace.append((who, what))

    def alive(self) -> None:
        """Raise Killed if the current worker is dead: what it calls has no effect."""
        if self.current.killed:
            raise Killed

    def step(self, what: str) -> None:
        """Let chance decide what happens before the current worker goes on."""
        fiber = self.current
        if fiber.killed:
            raise Killed
        self.steps += 1
        self.now += MILLISECOND
        self.trace.append((fiber.name, what))
        if self.random.random() < self.restless:
            self._meanwhile()
        if self.steps >= self._return_at:
            self._hand(fiber, None)
        elif fiber.frozen:
            self.give_way()
        if fiber.killed:
            raise Killed

    def wait(self, what: str, seconds: float) -> None:
        """Take a step that lasts; others go on meanwhile."""
        self.step(what)
        self.now += seconds
        self._pass_time()
        self.give_way()

    def give_way(self) -> None:
        """Let another worker go on, if there is one; a frozen one stays behind until it is thawed."""
        fiber = self.current
        others = [other for other in self._movable() if other is not fiber]
        if others:
            self._hand(fiber, self.random.choice(others))
        elif fiber.frozen:
            self._hand(fiber, None)
        if fiber.killed:
            raise Killed

    def kill(self, fiber: Fiber) -> None:
        """End a worker: at its step if it holds the baton, else when it gets it."""
        fiber.killed = True
        fiber.frozen = False

    def run(self, steps: int) -> bool:
        """Let the workers take so many steps; return False at once if none can move."""
        movable = self._movable()
        if not movable:
            return False
        self._return_at = self.steps + steps
        self._pass(self.random.choice(movable))
        self._home.acquire()
        self._current = None
        return True

    def end(self) -> None:
        """Kill whatever still lives and wait for the threads."""
        for fiber in self.fibers:
            if not fiber.ended:
                self.kill(fiber)
        while self.run(1):
            continue
        for fiber in self.fibers:
            if fiber.thread is not None:
                fiber.thread.join()

    def _movable(self) -> list[Fiber]:
        return [fiber for fiber in self.fibers if not (fiber.ended or fiber.frozen)]

    def _pass(self, fiber: Fiber) -> None:
        self._current = fiber
        fiber.baton.release()

    def _hand(self, fiber: Fiber, to: Fiber | None) -> None:
        if to is None:
            self._home.release()
        else:
            self._pass(to)
        fiber.baton.acquire()

    def _live(self, fiber: Fiber) -> None:
        fiber.baton.acquire()
        try:
            if not fiber.killed:
                fiber.body()
        finally:
            fiber.ended = True
            movable = self._movable()
            if movable and self.steps < self._return_at:
                self._pass(self.random.choice(movable))
            else:
                self._home.release()

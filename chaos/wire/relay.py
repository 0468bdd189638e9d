"""A TCP relay that understands frames: it lets all pass, except what a rule drops, holds, cuts or reports.

The relay runs in a thread of its own and is used from a test: rules are added while traffic flows. What a framing
makes of the bytes is the protocol's matter (see `chaos.wire.proxy`). Half-closed connections stay half open, so a frame
that is held reaches the server also after its client has gone: as a late packet does.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Protocol, Self

from onceloop.errors import ExitCode, ReportedError

START_SECONDS = 10.0
RULE_SECONDS = 20.0


class Direction(Enum):
    """Which way a frame goes."""

    REQUEST = "request"
    RESPONSE = "response"


class Action(Enum):
    """What happens to a frame that a rule is due for; its `then` is called first."""

    PASS = auto()
    DROP = auto()
    """Take it away; the connection stays up."""
    HOLD = auto()
    """Keep it, and all that follows it that way on its connection, until `Rule.release` or `seconds`."""
    CUT = auto()
    """Take it away and end the connection; what passed before arrives."""
    CUT_AFTER = auto()
    """Let it pass, then end the connection."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `kind`: what rules go by; `detail`: more of it in words; `client`: what the client calls itself."""

    connection: int
    direction: Direction
    kind: int | str
    detail: str
    client: str
    data: bytes


class NotMetError(ReportedError):
    """No frame met a rule in time."""

    exit_code = ExitCode.UNAVAILABLE


class Framing(Protocol):
    """How one connection's bytes become frames; one instance per connection. At the end: IncompleteReadError."""

    async def greet(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Settle with the client what must be settled before frames begin."""

    async def request(self, client: asyncio.StreamReader) -> Frame:
        """Return the client's next frame."""

    async def response(self, server: asyncio.StreamReader) -> Frame:
        """Return the server's next frame, as the client is to see it."""


@dataclass(eq=False, slots=True, kw_only=True)
class Rule:
    """What to do with the `nth` matching frame (1 is the first) and with `times` - 1 after it."""

    kind: int | str
    direction: Direction
    action: Action
    nth: int
    times: int
    where: Callable[[Frame], bool]
    seconds: float | None
    then: Callable[[Frame], object]
    frames: list[Frame] = field(default_factory=list)
    """The frames that it was due for."""
    _seen: int = 0
    _fired: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def due(self, frame: Frame) -> bool:
        """Count the frame if it matches; return True if it is one to act on."""
        if (frame.kind, frame.direction) != (self.kind, self.direction) or not self.where(frame):
            return False
        self._seen += 1
        return self.nth <= self._seen < self.nth + self.times

    def wait(self, seconds: float = RULE_SECONDS) -> Frame:
        """Return the first frame it was due for, once its `then` was called. Raises NotMetError if there is none."""
        if not self._fired.wait(seconds):
            raise NotMetError(f"no {self.direction.value} {self.kind} met the rule within {seconds} s")
        return self.frames[0]

    def release(self) -> None:
        """Let go what is held, and hold nothing from now on."""
        self._released.set()

    async def apply(self, frame: Frame) -> None:
        """Call `then`, off the relay's own thread since it may block; hold the frame if it is to be held."""
        self.frames.append(frame)
        await asyncio.to_thread(self.then, frame)
        self._fired.set()
        if self.action is Action.HOLD:
            await asyncio.to_thread(self._released.wait, self.seconds)


class Relay:
    """Listen on a port of its own and relay to `upstream`. `seen` records every frame, in order, without its bytes."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.seen: list[Frame] = []
        self.port = 0
        self._rules: list[Rule] = []
        self._links: dict[int, _Link] = {}
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._listening = threading.Event()

    def framing(self, connection: int) -> Framing:
        """Return how a new connection is read; a protocol says it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_SECONDS):
            raise TimeoutError("the relay does not listen")
        return self

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            rule.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)

    @property
    def address(self) -> str:
        """Return host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def upstream_ports(self) -> set[int]:
        """Return the local ports of the relay's own connections to the server."""
        return {link.upstream_port for link in list(self._links.values())}

    def rule(
        self,
        kind: int | str,
        *,
        direction: Direction,
        action: Action,
        nth: int = 1,
        times: int = 1,
        where: Callable[[Frame], bool] = lambda _: True,
        seconds: float | None = None,
        then: Callable[[Frame], object] = lambda _: None,
    ) -> Rule:
        """Add a rule; it counts frames from now on. Of several that are due the oldest acts."""
        rule = Rule(
            kind=kind,
            direction=direction,
            action=action,
            nth=nth,
            times=times,
            where=where,
            seconds=seconds,
            then=then,
        )
        self._rules.append(rule)
        return rule

    def kinds(self, direction: Direction, *, client: str | None = None) -> list[int | str]:
        """Return the kinds of the frames that went this way so far, of one client or of all."""
        return [f.kind for f in list(self.seen) if f.direction is direction and client in {None, f.client}]

    def partition(self) -> None:
        """Let nothing through, in both directions, without closing anything."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        """Let everything through again, what waited first."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        for link in list(self._links.values()):
            self._loop.call_soon_threadsafe(link.cut)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flowing.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._take, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._flowing.set()
        while tasks := asyncio.all_tasks(self._loop):  # a connection that is accepted just now becomes another one
            for link in list(self._links.values()):
                link.cut()  # their tasks see the end of their streams
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _take(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number, framing = self._connections, self.framing(self._connections)
        link = self._links[number] = _Link(answer)
        with suppress(*_ENDS):
            await self._flowing.wait()
            await framing.greet(client, answer)
            server, ask = await asyncio.open_connection(*self.upstream)
            link.server = ask
            await asyncio.gather(
                self._pump(framing.request, client, link, ask), self._pump(framing.response, server, link, answer)
            )
        link.cut()
        del self._links[number]

    async def _pump(
        self,
        read: Callable[[asyncio.StreamReader], Awaitable[Frame]],
        source: asyncio.StreamReader,
        link: "_Link",
        target: asyncio.StreamWriter,
    ) -> None:
        """Carry one direction until its end, then let the other side know that nothing more comes."""
        with suppress(*_ENDS):
            while True:
                await self._carry(await read(source), link, target)
        with suppress(*_ENDS):
            target.write_eof()

    async def _carry(self, frame: Frame, link: "_Link", target: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        self.seen.append(replace(frame, data=b""))
        due = [rule for rule in list(self._rules) if rule.due(frame)]
        action = due[0].action if due else Action.PASS
        if due:
            await due[0].apply(frame)
        if action not in {Action.DROP, Action.CUT}:
            target.write(frame.data)
            await target.drain()
        if action in {Action.CUT, Action.CUT_AFTER}:
            link.cut()


class _Link:
    """Both sides of one connection; the server's comes once the client has said enough."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self._client = client
        self.server: asyncio.StreamWriter | None = None

    @property
    def upstream_port(self) -> int:
        """Return the local port of the connection to the server, 0 before there is one."""
        return int(self.server.get_extra_info("sockname")[1]) if self.server else 0

    def cut(self) -> None:
        """End it: the client at once, the server once it has what was passed on."""
        self._client.transport.abort()
        if self.server is not None:
            self.server.close()


_ENDS = (OSError, asyncio.IncompleteReadError)

"""The client and the command against a whole daemon in memory, on a simulated clock."""

from __future__ import annotations

import io
from typing import Any

from treq.testing import StringStubbingResource
from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.web.resource import IResource

from rqdisco.cli.app import App, Command, run
from rqdisco.cli.main import run_command_line
from rqdisco.cli.output import CommandOutput
from rqdisco.client import DiscoveryClient
from rqdisco.http.server.interfaces import Application
from tests.support.backends import new_daemon
from tests.support.in_memory_http import InMemoryClient

URL = "http://127.0.0.1:4000"
A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
RAFT_A, RAFT_B = "10.0.0.1:4002", "10.0.0.2:4002"


class Service:
    """A service as its clients reach it; it refuses connections while it is `away`."""

    def __init__(
        self, resource: Application | IResource | None = None, *, operator: bool = False, **daemon: Any
    ) -> None:
        self.daemon = new_daemon(**daemon)
        apis = self.daemon.apis
        self._stub = InMemoryClient(resource or (apis.operators() if operator else apis.public()))
        self.clock = self.daemon.clock
        self.away = False
        self.deaf = False
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked = 0

    def request(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Stand in for treq's client, as far as the client library uses it."""
        self.asked += 1
        if self.away:
            return fail(error.ConnectionRefusedError())
        for end, (status, body) in self.answers.items():
            if args[1].to_text().endswith(end):
                canned = StringStubbingResource(lambda *_, status=status, body=body: (status, {}, body))
                args = (args[0], args[1].to_text(), *args[2:])
                return InMemoryClient(canned).request(*args, **kwargs)
        return self._stub.request(*args, **kwargs)

    def let_go(self) -> None:
        """Have the service end the streams of all watchers."""
        for watcher in self.daemon.apis.streams.watchers:
            watcher.end()
        self.settle()

    def client(self, url: str = URL, timeout: float = 10.0, token: str | None = None) -> DiscoveryClient:
        """Return a client of the service."""
        http: Any = self
        return DiscoveryClient(http, url, clock=self.clock, timeout=timeout, token=token)

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        if self.deaf:
            return
        self._stub.flush()
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
            self._stub.flush()

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.settle()
        self.clock.advance(seconds)
        self.settle()

    def get(self, coroutine: Any) -> Any:
        """Return what a coroutine returns, or raise what it raises; it must need no time."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
        self.settle()
        assert outcome, "has not ended"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


class Stream(io.TextIOWrapper):
    """An output, of a terminal or not; writing fails while it is `broken`, as on a pipe without a
    reader.
    """

    broken = False

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().write(text)

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        """All that was written."""
        buffer: Any = self.buffer
        return str(buffer.getvalue().decode(self.encoding))


class Shell:
    """Run commands as in a shell. `answers` are given to questions, if there is a terminal;
    `questions` collects them.
    """

    def __init__(
        self, service: Service, *, terminal: bool = False, answers: tuple[bool, ...] = (), encoding: str = "utf-8"
    ) -> None:
        self.service = service
        self.token: str | None = None
        self.questions: list[str] = []
        self._answers = list(answers)
        self._terminal = terminal
        self._encoding = encoding
        self._renew()

    def start(self, *arguments: str) -> Running:
        """Start a command and run it as far as it gets without time passing."""
        self._renew()
        running = Running()

        def run_command(command: Command, url: str) -> int:
            output = CommandOutput(self.out, self.err, self._ask if self._terminal else None)
            client = self.service.client(url, token=self.token)
            daemon, clock = self.service.daemon, self.service.clock
            app = App(
                client,
                url,
                clock,
                lambda: 0.5,
                daemon.random.randbytes,
                output,
                lambda: daemon.wall_us() / 1_000_000,
                lambda url, token: self.service.client(url, token=token),
            )
            running.deferred = Deferred.fromCoroutine(run(app, command))
            running.deferred.addCallback(running.end)
            self.service.settle()
            return 0

        status = run_command_line(arguments, run_command)
        if running.deferred is None:
            running.end(status)
        return running

    def __call__(self, *arguments: str) -> int:
        """Run a command that needs no time; return its exit status."""
        running = self.start(*arguments)
        assert running.status is not None, f"runs on: {self.out.text}{self.err.text}"
        return running.status

    @property
    def lines(self) -> list[str]:
        """The results of the last command."""
        return self.out.text.splitlines()

    @property
    def messages(self) -> str:
        """The messages of the last command."""
        return self.err.text

    def _renew(self) -> None:
        self.out = Stream(terminal=self._terminal, encoding=self._encoding)
        self.err = Stream(terminal=self._terminal, encoding=self._encoding)

    def _ask(self, question: str) -> bool:
        self.questions.append(question)
        return self._answers.pop(0)


class Running:
    """A command; `status` is its exit status once it has ended."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.deferred: Deferred[Any] | None = None

    @property
    def has_ended(self) -> bool:
        return self.status is not None

    def end(self, status: int) -> None:
        self.status = status

    def interrupt(self) -> None:
        """Interrupt the command as Ctrl-C does."""
        assert self.deferred is not None
        self.deferred.cancel()


def lead(shell: Shell, discovery_id: str, *more: str) -> int:
    """Make n1 the leader with the command."""
    value = ("--id", "n1", "--api-addr", f"http://{A}", "--addr", RAFT_A)
    return shell("leader", "set", discovery_id, *value, *more)

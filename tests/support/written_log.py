"""A log in memory, as a daemon writes it."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher

from rqdisco.service.logging import LineObserver


class Paper:
    """Accepts what is written, as much at a time as the test allows."""

    def __init__(self) -> None:
        self.written = b""
        self.room: int | None = None
        self.broken = False

    def write(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        taken = data if self.room is None else data[: self.room]
        self.room = None if self.room is None else self.room - len(taken)
        self.written += taken
        return len(taken)


class Log:
    """A log written by our observer, and its events."""

    def __init__(self, *, as_json: bool) -> None:
        self.paper = Paper()
        self.clock = Clock()
        observer = LineObserver(self.paper, self.clock.callLater, as_json=as_json)
        self.logger = Logger("rqdisco.test", observer=LogPublisher(observer))
        self.foreign = Logger("somebody.else", observer=LogPublisher(observer))

    @property
    def lines(self) -> list[str]:
        return self.paper.written.decode().splitlines()

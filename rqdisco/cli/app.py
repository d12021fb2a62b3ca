"""What a command is and what it is given, how it ends, and how it waits for a service that is not
there yet.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from rqdisco.cli.screen import Screen
from rqdisco.client import DiscoveryClient, Refused, Unavailable, Unreachable
from rqdisco.core.ids import RandomBytes, is_uuid

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED, PIPE_CLOSED = 130, 141

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0

# In the words of the discovery API, and of Consul's.
_NOT_YET = " yet: the first node in consul-kv mode makes it; `rqdisco create` mints another"
_NO_TOKEN = ("authentication required", "unknown token", "ACL not found", "Permission denied")

T = TypeVar("T")


class Failed(Exception):
    """A command that did not do what it was to do, for a reason of its own; ends with status 1."""


class Misused(Exception):
    """A command that cannot be understood; ends with status 2."""


@dataclass(frozen=True)
class App:
    """What a command has of the world: the service at `url` (without credentials), time, chance and
    a screen.

    `jitter` gives numbers of at least 0 and less than 1, `secret` so many bytes that nobody can
    guess, `wall` the seconds since 1970.
    """

    client: DiscoveryClient
    url: str
    clock: IReactorTime
    jitter: Callable[[], float]
    secret: RandomBytes
    screen: Screen
    wall: Callable[[], float]


Command = Callable[[App], Awaitable[int]]


async def run(app: App, command: Command) -> int:
    """Run a command and return its exit status; what it fails with is said in one line."""
    try:
        return await command(app)
    except CancelledError:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Unreachable as error:
        app.screen.say(f"cannot reach {app.url}: {error}")
        return UNREACHABLE
    except (Refused, Failed, Misused, OSError) as error:
        app.screen.say(f"{error}{_hint(error)}")
        return USAGE if isinstance(error, Misused) else REFUSED


async def run_to_its_end(app: App, command: Command) -> int:
    """The same, and a fault of the command itself is shown with where it happened.

    Twisted would write it as it is, and it may repeat what the service said.
    """
    try:
        return await run(app, command)
    except Exception:
        app.screen.complain(traceback.format_exc())
        return REFUSED


def _hint(error: Exception) -> str:
    """What to do about it, where that is known."""
    if isinstance(error, Refused) and error.status == 404 and "does not exist" in str(error):
        return "; `rqdisco create` mints an ID" if is_uuid(str(error).split()[0]) else _NOT_YET
    if isinstance(error, Refused) and str(error) in _NO_TOKEN:
        return ": set RQDISCO_TOKEN to one that the service knows"
    return ""


async def pause(app: App, seconds: float) -> None:
    """Wait."""
    clock: Any = app.clock
    await deferLater(clock, seconds)


async def patiently(app: App, ask: Callable[[], Awaitable[T]], patience: float) -> T:
    """What `ask` returns, asked again for `patience` seconds while the service is unreachable or
    unavailable.

    Pauses are random, up to a bound that doubles from 0.25 to 8 seconds, so that nodes which start
    together do not ask together; what the service asks for in Retry-After comes on top.
    """
    deadline = app.clock.seconds() + patience
    longest = _FIRST_PAUSE
    while True:
        try:
            return await ask()
        except (Unreachable, Unavailable) as error:
            left = deadline - app.clock.seconds()
            if left <= 0:
                raise
            if longest == _FIRST_PAUSE:
                app.screen.say(f"{app.url}: {error}; trying again for {left:.0f} s")
            asked_for = error.retry_after if isinstance(error, Unavailable) else None
        await pause(app, min(left, (asked_for or 0.0) + app.jitter() * longest))
        longest = min(_LONGEST_PAUSE, 2 * longest)

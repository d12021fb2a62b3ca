"""Run one command of the CLI: its context (`App`), exit status, error lines, and retries."""

from __future__ import annotations

import re
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater

from rqdisco.cli.output import CommandOutput, describe_os_error
from rqdisco.client import DiscoveryClient, Refused, Unavailable, Unreachable
from rqdisco.core.ids import RandomBytes, is_uuid

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED, PIPE_CLOSED = 130, 141

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0

_NO_SUCH_NAME = " yet: the first node in consul-kv mode creates it, or `rqdisco create --name {id}`"
_SOCKET_HINT = "use --url unix:/run/rqdisco/operator.sock, or the path given to the daemon's --operator-socket"
_ADMIN_HINT = "set RQDISCO_TOKEN to a token with the scope admin"
_NO_SUCH_RESOURCE = "no such operator's resource"
# The error texts of a daemon that answers operators, but has no peers, or no disk of its own.
_NO_PEERS = "this daemon has no peers"
_IN_ETCD = "the records are in etcd"
_NOT_THERE = ("Connection refused", "No route to host", "No such file or directory", "unknown host name")
# The error texts of the discovery API and the beginnings of those of Consul's.
_NO_TOKEN = ("authentication required", "unknown token", "ACL not found", "Permission denied: a token is required")
_LACKS_SCOPE = re.compile(
    r"(?:token may not|Permission denied: the token lacks the scope) (mint|read|write|administer)\b"
)

T = TypeVar("T")


class CommandFailed(Exception):
    """A command failed, other than by an error of the service; it exits with status 1."""


class UsageError(Exception):
    """A command was used incorrectly; it exits with status 2."""


@dataclass(frozen=True)
class App:
    """The context of a command: a client of the service at `url` (without credentials), output,
    time and randomness.

    `jitter` returns numbers in [0, 1), `secret` the given number of unguessable bytes, `wall` the
    seconds since 1970. `connect` returns a client of another service, by its URL and a token.
    """

    client: DiscoveryClient
    url: str
    clock: IReactorTime
    jitter: Callable[[], float]
    secret: RandomBytes
    output: CommandOutput
    wall: Callable[[], float]
    connect: Callable[[str, str | None], DiscoveryClient]


Command = Callable[[App], Awaitable[int]]


async def run(app: App, command: Command) -> int:
    """Run a command and return its exit status. Expected errors are printed as one line."""
    try:
        return await command(app)
    except CancelledError:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Unreachable as error:
        app.output.message(f"cannot reach {app.url}: {error}{_remedy(error)}")
        return UNREACHABLE
    except OSError as error:
        app.output.message(describe_os_error(error))
        return FAILED
    except (Refused, CommandFailed, UsageError) as error:
        when = f"{app.url} cannot do that now: " if isinstance(error, Unavailable) else ""
        app.output.message(f"{when}{error}{_remedy(error)}")
        return USAGE if isinstance(error, UsageError) else FAILED


async def run_with_traceback(app: App, command: Command) -> int:
    """Run a command like `run`; print the traceback of an unexpected error.

    Twisted would print the traceback unescaped, and it may contain what the service sent.
    """
    try:
        return await run(app, command)
    except Exception:
        app.output.unprefixed_message(traceback.format_exc())
        return FAILED


def _remedy(error: Exception) -> str:
    """Return how to fix an error, where that is known."""
    if isinstance(error, Refused) and error.status == 404 and "does not exist" in str(error):
        name = str(error).split()[0]
        return "; `rqdisco create` creates an ID" if is_uuid(name) else _NO_SUCH_NAME.format(id=name)
    if isinstance(error, Unreachable) and str(error) in _NOT_THERE:
        return "; check the URL (--url or RQDISCO_URL), and that the daemon runs there"
    if isinstance(error, Unreachable) and "certificate verify failed" in str(error):
        return ": set RQDISCO_CA to a file with the certificate of the authority that signed it"
    if isinstance(error, Refused) and str(error).startswith(_NO_TOKEN):
        return ": set RQDISCO_TOKEN to a token of the service"
    if isinstance(error, Refused) and (lacking := _LACKS_SCOPE.match(str(error))):
        scope = lacking[1].replace("administer", "admin")
        return f": set RQDISCO_TOKEN to a token with the scope {scope}, as `rqdisco token new --scope {scope}` makes"
    return ""


def operator_failure(error: Refused) -> CommandFailed:
    """Return the failure of an operator's request, with a hint if another socket or another token
    is needed.
    """
    if error.status == 401 or (error.status == 403 and "token" in str(error)):
        return CommandFailed(f"{error}: {_ADMIN_HINT}")
    if error.status == 404 and _NO_PEERS in str(error):
        return CommandFailed(f"{error}: it runs without --peer")
    if error.status != 404 or _IN_ETCD in str(error):
        return CommandFailed(f"not now: {error}" if isinstance(error, Unavailable) else str(error))
    if _NO_SUCH_RESOURCE in str(error):
        return CommandFailed("this daemon does not know the request: it is of an older release, upgrade it")
    return CommandFailed(f"this address does not serve operators: {_SOCKET_HINT}; or {_ADMIN_HINT}")


async def sleep(app: App, seconds: float) -> None:
    """Wait `seconds` seconds."""
    # deferLater takes any IReactorTime, but its annotation names implementations.
    await deferLater(cast("Clock", app.clock), seconds)


async def retry(app: App, request: Callable[[], Awaitable[T]], patience: float, name: str | None = None) -> T:
    """Return the result of `request`, repeated for `patience` seconds while the service is
    unreachable or unavailable. `name` is the service's, if it is not that of `app`.

    Pauses are random, up to a bound that doubles from 0.25 to 8 seconds, so that nodes that start
    together do not retry together. The Retry-After of the service is added.
    """
    deadline = app.clock.seconds() + patience
    bound = _FIRST_PAUSE
    while True:
        try:
            return await request()
        except (Unreachable, Unavailable) as error:
            left = deadline - app.clock.seconds()
            if left <= 0:
                raise
            if bound == _FIRST_PAUSE:
                app.output.message(f"{name or app.url}: {error}; retrying for {left:.0f} s")
            retry_after = error.retry_after if isinstance(error, Unavailable) else None
        await sleep(app, min(left, (retry_after or 0.0) + app.jitter() * bound))
        bound = min(_LONGEST_PAUSE, 2 * bound)

"""`twistd rqdisco`: what the process has of its system, how it starts, and the exit status it ends
with.

The only module that names the reactor.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from rqdisco.core.errors import (
    BadEndpoint,
    CannotListen,
    CannotStart,
    CopiedState,
    DamagedState,
    KeysUnusable,
    OpenToOthers,
    PeersMissing,
    StateInUse,
    StateUnusable,
    TLSUnusable,
    TokensUnusable,
    UnknownFormat,
)
from rqdisco.limits import descriptors
from rqdisco.service import options
from rqdisco.service.config import Config
from rqdisco.service.lifecycle import Daemon
from rqdisco.service.logging import Descriptor, LineObserver, Nowhere
from rqdisco.service.system import System
from rqdisco.service.wiring.assembly import assemble

_IO_STATUS = 74
_STATUS: dict[type[CannotStart], int] = {
    BadEndpoint: options.USAGE_STATUS,
    DamagedState: 65,
    UnknownFormat: 65,
    CannotListen: 69,
    StateUnusable: _IO_STATUS,
    StateInUse: 78,
    CopiedState: 78,
    PeersMissing: 78,
    KeysUnusable: options.USAGE_STATUS,
    TokensUnusable: options.USAGE_STATUS,
    TLSUnusable: options.USAGE_STATUS,
    OpenToOthers: options.USAGE_STATUS,
}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = Logger()


class Options(options.DaemonOptions):
    """The options as twistd reads them; logs as we want them, unless twistd's own options ask for
    another way.
    """

    def postOptions(self) -> None:
        super().postOptions()
        twistd: Any = self.parent
        if twistd is None or "logger" not in twistd or any(map(twistd.get, ("logger", "logfile", "syslog"))):
            return
        if twistd.get("nodaemon"):
            twistd["logger"] = f"{__name__}.{log_observer.__name__}"


def log_observer() -> LineObserver:
    """What twistd writes its log with."""
    from twisted.internet import reactor

    if sys.stdout is None:
        # It was closed; its descriptor may be any other file's by now.
        return LineObserver(Nowhere(), _schedule, as_json=False)
    fd = sys.stdout.fileno()
    observer = LineObserver(Descriptor(fd), _schedule, as_json=not os.isatty(fd))
    reactor.addSystemEventTrigger("after", "shutdown", observer.flush)
    return observer


def makeService(options: Options) -> Daemon:
    """The daemon as `options` want it; a reason not to start ends the process with one line."""
    from twisted.internet import reactor

    twistd: Any = options.parent
    becomes_daemon = twistd is not None and not twistd.get("nodaemon", True)
    try:
        return _start(options.config, reactor, _refuse_to_parent if becomes_daemon else _refuse)
    except CannotStart as refusal:
        raise SystemExit(_say(refusal)) from None


def _start(config: Config, reactor: Any, refuse: Callable[[CannotListen], None]) -> Daemon:
    # Twisted goes by the wall clock, which may step: deadlines would wait for hours, or all pass at
    # once (P6).
    reactor.seconds = time.monotonic
    jitter = Random(os.urandom(8))  # noqa: S311, nobody gains by guessing it
    hangup: list[Callable[[], None]] = []
    machine = System(
        reactor=reactor,
        environment=os.environ,
        pid=os.getpid(),
        boot_id=_read_boot_id(),
        wall_us=lambda: time.time_ns() // 1000,
        uptime=_uptime,
        random=os.urandom,
        jitter=lambda: jitter.uniform(0.9, 1.1),
        descriptors=descriptors.allow,
        on_hangup=hangup.append,
        refuse=refuse,
        fail=_fail,
    )
    daemon = assemble(config, machine)
    # What is here now stays: looking through it would stop the daemon for tens of milliseconds
    # every now and then.
    gc.freeze()
    # The journal's thread, back from the disk, waits this long for its turn while requests are
    # being worked on.
    sys.setswitchinterval(0.0005)
    signal.signal(signal.SIGHUP, lambda *_: [reactor.callFromThread(call) for call in hangup])
    return daemon


def _uptime() -> float:
    """Seconds since the machine booted, those it slept included, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read_boot_id() -> str:
    """What tells this boot of the machine from others; without it every start counts as a boot."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _schedule(seconds: float, call: Callable[[], None]) -> None:
    from twisted.internet import reactor

    if seconds or reactor.running:
        reactor.callLater(seconds, call)
    else:
        call()


def _say(refusal: CannotStart) -> int:
    """Print the one line that says why there is no daemon; return the exit status."""
    _complain(str(refusal))
    return _STATUS[type(refusal)]


def _refuse(refusal: CannotListen) -> None:
    _end(_say(refusal))


def _refuse_to_parent(refusal: CannotListen) -> None:
    """Once forked, only an exception reaches the twistd that the user waits for; it prints it and
    exits with 1.
    """
    raise refusal


def _fail(reason: str) -> None:
    """End the process: going on would mean to acknowledge what may not be there after a restart."""
    _log.critical("journal failed, nothing can be acknowledged any more: {reason}", reason=reason)
    _complain(reason)
    _end(_IO_STATUS)


def _complain(text: str) -> None:
    # The real one: sys.stderr goes into the log once that was begun.
    print(f"rqdisco: {text}", file=sys.__stderr__)


def _end(status: int) -> None:
    """End with `status`, which twistd itself cannot do once the reactor runs."""
    from twisted.internet import reactor

    if not reactor.running:
        raise SystemExit(status)

    def leave() -> None:
        sys.stdout.flush()
        os._exit(status)

    atexit.register(leave)
    with suppress(ReactorNotRunning):
        reactor.stop()

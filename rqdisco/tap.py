"""`twistd rqdisco`: starts the daemon on the real system, and sets the exit status.

The only module that imports the reactor.
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
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

from rqdisco.core.errors import (
    BadEndpoint,
    CannotListen,
    CannotStart,
    CopiedState,
    DamagedState,
    EtcdAccessDenied,
    EtcdUnusable,
    KeysUnusable,
    ParserMissing,
    PeersMissing,
    StateInUse,
    StateUnusable,
    TLSUnusable,
    TokensUnusable,
    UnknownFormat,
    UnprotectedListener,
)
from rqdisco.limits import descriptors
from rqdisco.service import options
from rqdisco.service.config import Config, LogConfig, LogFormat, LogLevelName
from rqdisco.service.environment import unknown_variables
from rqdisco.service.logging import Descriptor, Discard, LineObserver
from rqdisco.service.system import Announce, System
from rqdisco.twisted_compat import poll_without_context, use_clock

if TYPE_CHECKING:
    from rqdisco.service.lifecycle import Daemon

_IO_STATUS = 74
_STATUS: dict[type[CannotStart], int] = {
    BadEndpoint: options.USAGE_STATUS,
    DamagedState: 65,
    UnknownFormat: 65,
    CannotListen: 69,
    StateUnusable: _IO_STATUS,
    StateInUse: 78,
    CopiedState: 78,
    ParserMissing: 69,
    PeersMissing: 78,
    KeysUnusable: options.USAGE_STATUS,
    EtcdAccessDenied: options.USAGE_STATUS,
    EtcdUnusable: 69,
    TokensUnusable: options.USAGE_STATUS,
    TLSUnusable: options.USAGE_STATUS,
    UnprotectedListener: options.USAGE_STATUS,
}
_LOG_SECONDS = 0.005
# As many as some hundred requests in progress have. A collection of so many takes 1 ms.
_YOUNG_OBJECTS = 20_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")

_log = Logger()


class Options(options.DaemonOptions):
    """The options as twistd reads them. Unless twistd's own options choose a log, the daemon logs
    in its own format.
    """

    def postOptions(self) -> None:
        super().postOptions()
        twistd: usage.Options | None = self.parent
        if twistd is None:
            return
        log = self.config.log
        is_ours = "logger" in twistd and bool(twistd.get("nodaemon"))
        if not is_ours or any(map(twistd.get, ("logger", "logfile", "syslog"))):
            self._refuse_log_options(log)
        else:
            twistd["logger"] = f"{__name__}.LOG_OBSERVERS.{log.format}_{log.level}"

    def _refuse_log_options(self, log: LogConfig) -> None:
        if log != LogConfig():
            name = "log-level" if log.format is None else "log-format"
            raise usage.UsageError(
                f"{name}: requires twistd --nodaemon, and none of its options --logger, --logfile and --syslog"
            )


def log_observer(form: LogFormat | None, level: LogLevelName) -> LineObserver:
    """Return the log observer for twistd; without a format: text on a terminal, JSON otherwise."""
    from twisted.internet import reactor

    if sys.stdout is None:
        # stdout was closed; its descriptor may belong to another file by now.
        return LineObserver(Discard(), _schedule, as_json=False)
    fd = sys.stdout.fileno()
    as_json = not os.isatty(fd) if form is None else form == "json"
    observer = LineObserver(Descriptor(fd), _schedule, as_json=as_json, least=level)
    reactor.addSystemEventTrigger("after", "shutdown", observer.end)
    # Without a reactor, if the daemon does not start.
    atexit.register(observer.end)
    return observer


# twistd takes the dotted name of a function without arguments.
LOG_OBSERVERS = SimpleNamespace(
    **{
        f"{form}_{level}": partial(log_observer, form, level)
        for form in (None, *get_args(LogFormat))
        for level in get_args(LogLevelName)
    }
)


def makeService(options: Options, announce: Announce = lambda addresses: None) -> Daemon:
    """Build the daemon; `announce` receives its addresses once it listens. If it cannot start, print
    one line that says why and exit.
    """
    from twisted.internet import reactor

    twistd: usage.Options | None = options.parent
    becomes_daemon = twistd is not None and not twistd.get("nodaemon", True)
    # Modules and records that are loaded now stay; looking for garbage among them takes a tenth of
    # the time.
    gc.disable()
    try:
        return _start(options.config, reactor, _refuse_to_parent if becomes_daemon else _refuse, announce)
    except CannotStart as refusal:
        raise SystemExit(_print_refusal(refusal)) from None
    finally:
        gc.enable()


def _start(config: Config, reactor: Any, refuse: Callable[[CannotStart], None], announce: Announce) -> Daemon:
    _check_parser()
    from rqdisco.service.wiring.daemon import build_daemon

    # Twisted uses the wall clock, which may step: deadlines would wait for hours, or all expire at
    # once (P6).
    use_clock(reactor, time.monotonic)
    poll_without_context(reactor)
    jitter = Random(os.urandom(8))  # noqa: S311, not a secret
    hangup: list[Callable[[], None]] = []
    system = System(
        reactor=reactor,
        environment=os.environ,
        pid=os.getpid(),
        boot_id=_read_boot_id(),
        network=_read_network(),
        wall_us=lambda: time.time_ns() // 1000,
        uptime=_uptime,
        cpu=time.thread_time,
        random=os.urandom,
        jitter=lambda: jitter.uniform(0.9, 1.1),
        call_soon=lambda call: reactor.callLater(0, call),
        allow_descriptors=descriptors.allow_connections,
        on_hangup=hangup.append,
        refuse=refuse,
        fail=_fail,
        announce=announce,
    )
    daemon = build_daemon(config, system)
    _tune_interpreter()
    signal.signal(signal.SIGHUP, lambda *_: [reactor.callFromThread(call) for call in hangup])
    return daemon


def _check_parser() -> None:
    """Raise ParserMissing if there is no llhttp: there is no second parser."""
    try:
        # Nothing else is wanted of it here.
        from httptools import HttpRequestParser  # noqa: F401
    except Exception as error:
        # A broken installation may raise anything.
        raise ParserMissing(
            f"httptools, the HTTP parser, cannot be imported ({error});"
            f" install it: {sys.executable} -m pip install 'httptools>=0.9,<0.10'"
        ) from None


def _tune_interpreter() -> None:
    """Keep pauses short, and the interpreter from looking for garbage with every few requests."""
    # The objects made so far live as long as the daemon; collecting them would pause it for tens of
    # milliseconds now and then.
    gc.freeze()
    # Requests in progress are some dozens of objects each, and leave none behind that only the
    # collector finds.
    gc.set_threshold(_YOUNG_OBJECTS)
    # The longest that the journal's thread, back from the disk, waits for the interpreter while
    # requests are processed.
    sys.setswitchinterval(0.0005)


def _uptime() -> float:
    """Return seconds since the machine booted, including suspended time where the system counts
    it.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read_boot_id() -> str:
    """Return the ID of this boot of the machine. Where there is none, every start counts as a
    boot.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _read_network() -> str | None:
    """Return what identifies the network namespace of this boot, None where there is none."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_NETWORK.readlink()}"
    except OSError:
        return None


def _schedule(seconds: float, call: Callable[[], None]) -> None:
    """Flush the log in so many seconds, but not before a few milliseconds' lines can share a
    write.
    """
    from twisted.internet import reactor

    if seconds or reactor.running:
        reactor.callLater(max(seconds, _LOG_SECONDS), call)
    else:
        call()


def _print_refusal(refusal: CannotStart) -> int:
    """Print why the daemon cannot start, with misspelled variables; return the exit status."""
    _print_error("; ".join([str(refusal), *unknown_variables(os.environ)]))
    return _STATUS[type(refusal)]


def _refuse(refusal: CannotStart) -> None:
    _exit(_print_refusal(refusal))


def _refuse_to_parent(refusal: CannotStart) -> None:
    """Raise, because after a fork only an exception reaches the twistd that the user waits for; it
    prints it and exits with 1. Once the reactor runs, nobody waits any more.
    """
    from twisted.internet import reactor

    if not reactor.running:
        raise refusal
    _log.critical("the daemon cannot run: {refusal}", refusal=str(refusal))
    _refuse(refusal)


def _fail(reason: str) -> None:
    """End the process: whatever it acknowledged from now on might be lost in a restart."""
    _log.critical("journal failed, nothing can be acknowledged any more: {reason}", reason=reason)
    _print_error(reason)
    _exit(_IO_STATUS)


def _print_error(text: str) -> None:
    # sys.stderr goes to the log once that is open.
    print(f"rqdisco: {text}", file=sys.__stderr__)


def _exit(status: int) -> None:
    """End the process with `status`, which twistd cannot do once the reactor runs."""
    from twisted.internet import reactor

    if not reactor.running:
        raise SystemExit(status)

    def leave() -> None:
        sys.stdout.flush()
        os._exit(status)

    atexit.register(leave)
    with suppress(ReactorNotRunning):
        reactor.stop()

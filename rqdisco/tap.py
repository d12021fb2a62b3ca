"""`twistd rqdisco`: the one place where the parts are joined, and the only module that names the reactor."""

from __future__ import annotations

import atexit
import gc
import ipaddress
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from rqdisco import __version__, options
from rqdisco.daemon import Daemon
from rqdisco.directory import Directory
from rqdisco.dns.answers import NameServer
from rqdisco.dns.door import DNSDoor
from rqdisco.dns.hosts import AT_ONCE, HostNames
from rqdisco.dns.limits import SourceLimit
from rqdisco.dns.system import SystemResolver
from rqdisco.errors import (
    CannotListen,
    CannotStart,
    CopiedState,
    DamagedState,
    KeysUnusable,
    PeersMissing,
    StateInUse,
    StateUnusable,
    UnknownFormat,
)
from rqdisco.journal.child import run_fold
from rqdisco.journal.files import Disk
from rqdisco.journal.folder import Folder
from rqdisco.journal.recovery import Recovered
from rqdisco.journal.segments import SegmentWriter
from rqdisco.journal.writer import Journal
from rqdisco.listening import Door, HTTPDoor, NameDoor, owners_socket
from rqdisco.local import LocalDirectory
from rqdisco.logs import Descriptor, LineObserver, Nowhere
from rqdisco.peers.assembly import Peered, Peering, known_members
from rqdisco.peers.http_link import Keys
from rqdisco.peers.office import Office
from rqdisco.peers.process import links, read_keys, rereading
from rqdisco.peers.resource import MOST_BYTES as PEER_BYTES
from rqdisco.peers.resource import PeerResource
from rqdisco.records import Moment
from rqdisco.state import open_state
from rqdisco.store import Store
from rqdisco.systemd import Notifier
from rqdisco.web.deadlines import Deadlines
from rqdisco.web.handling import ANSWER_SECONDS
from rqdisco.web.root import IMPORT_BYTES, Doors
from rqdisco.web.site import BoundedSite

_IO_STATUS = 74
_STATUS: dict[type[CannotStart], int] = {
    DamagedState: 65,
    UnknownFormat: 65,
    CannotListen: 69,
    StateUnusable: _IO_STATUS,
    StateInUse: 78,
    CopiedState: 78,
    PeersMissing: 78,
    KeysUnusable: options.USAGE_STATUS,
}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = Logger()


class Options(options.Options):
    """The options as twistd reads them; logs as we want them, unless twistd's own options ask for another way."""

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
        return _assemble(options.config, reactor, os.environ, _refuse_to_parent if becomes_daemon else _refuse)
    except CannotStart as refusal:
        raise SystemExit(_say(refusal)) from None


def _assemble(
    config: options.Config, reactor: Any, environment: Mapping[str, str], refuse: Callable[[CannotListen], None]
) -> Daemon:
    # Twisted goes by the wall clock, which may step: deadlines would wait for hours, or all pass at once (P6).
    reactor.seconds = time.monotonic
    endpoints = [(description, _endpoint(reactor, description)) for description in config.listen]
    fs = Disk()
    home, found = open_state(fs, config.data_dir, os.urandom)
    boot_id = _read_boot_id()
    boot = found.boot_number(boot_id)

    store = Store(found.records, found.last_version)
    segments = SegmentWriter(fs, config.data_dir, found.position, boot, boot_id)
    pool = ThreadPool(1, 1, "journal")
    reactor.callWhenRunning(pool.start)
    journal = Journal(
        store,
        segments,
        lambda call: deferToThreadPool(reactor, pool, call),
        lambda call: reactor.callLater(0, call),
        _fail,
    )
    peered = None if config.peers is None else _peered(config, config.peers, reactor, home, found, store, journal, boot)
    local = peered.local if peered is not None else _alone(config, home, found, store, journal, boot)
    directory: Directory = local if peered is None else peered.directory
    started = _monotonic()

    def describe() -> dict[str, Any]:
        uptime = int(_monotonic() - started)
        return {"name": "rqdisco", "version": __version__, "uptime": uptime, "ids": local.size}

    deadlines = Deadlines(reactor, ANSWER_SECONDS)
    doors = Doors(
        directory,
        deadlines,
        describe,
        reactor,
        lambda: time.time_ns() // 1000,
        max_body=config.max_body,
        strict=config.strict_addresses,
        peers=None if peered is None else Office(peered.report, peered.successions),
    )
    folder = Folder(
        reactor,
        journal,
        lambda through: run_fold(reactor, config.data_dir, through),
        config.snapshot_every,
        changed=found.changed,
    )
    # What is here now stays: looking through it would stop the daemon for tens of milliseconds every now and then.
    gc.freeze()
    # The journal's thread, back from the disk, waits this long for its turn while requests are being worked on.
    sys.setswitchinterval(0.0005)
    opened: list[Door] = [
        HTTPDoor("endpoints", reactor, endpoints, BoundedSite(doors.public(), reactor, config.max_body, time.time)),
    ]
    if config.operator_socket is not None:
        site = BoundedSite(doors.operators(), reactor, IMPORT_BYTES, time.time)
        opened.append(HTTPDoor("operator", reactor, [owners_socket(reactor, config.operator_socket)], site))
    if config.dns is not None:
        # All names are looked through now, and not while somebody waits.
        store.spellings  # noqa: B018
        opened.append(_name_door(reactor, config.dns, directory))
    on_hangup: list[Callable[[], None]] = [lambda: _log.info("status", refused=journal.refused, **describe())]
    if peered is not None and config.peers is not None:
        resource = PeerResource(peered.answers, peered.keys, reactor, os.urandom)
        site = BoundedSite(resource, reactor, PEER_BYTES, time.time)
        at = [(description, _endpoint(reactor, description)) for description in config.peers.listen]
        opened.append(HTTPDoor("peers", reactor, at, site))
        on_hangup.append(rereading(config.peers.keys, peered.keys, resource))
    _on_hangup(reactor, on_hangup)
    return Daemon(
        reactor,
        opened,
        deadlines,
        local,
        journal,
        folder,
        Notifier(reactor, environment, os.getpid()),
        refuse,
        pool.stop,
        None if peered is None else peered.peers,
    )


def _alone(
    config: options.Config, home: str, found: Recovered, store: Store, journal: Journal, boot: int
) -> LocalDirectory:
    """The directory of a daemon without peers. Raises PeersMissing."""
    others = [member.name for member in known_members(found.notes.items(), home)]
    if others:
        raise PeersMissing(
            f"{config.data_dir}: is one of several peers ({', '.join(others)}), and may not decide without them: say"
            " --peer and what belongs to it"
        )
    return LocalDirectory(
        store,
        journal,
        home,
        now=lambda: Moment(boot, int(_monotonic() * 1000)),
        wall_us=lambda: time.time_ns() // 1000,
        random=os.urandom,
        limits=config.limits,
    )


def _peered(
    config: options.Config,
    said: options.PeerConfig,
    reactor: Any,
    home: str,
    found: Recovered,
    store: Store,
    journal: Journal,
    boot: int,
) -> Peered:
    """All of a daemon that has peers. Raises KeysUnusable."""
    keys = Keys(read_keys(said.keys))
    jitter = Random(os.urandom(8))  # noqa: S311, nobody gains by guessing it
    return Peered(
        Peering(name=said.name, url=said.advertise, seeds=said.seeds, ack_required=said.ack_required),
        home,
        store,
        journal,
        found.notes.items(),
        reactor,
        links(reactor, keys, os.urandom),
        keys,
        now=lambda: Moment(boot, int(_monotonic() * 1000)),
        wall_us=lambda: time.time_ns() // 1000,
        random=os.urandom,
        jitter=lambda: jitter.uniform(0.9, 1.1),
        limits=config.limits,
    )


def _name_door(reactor: Any, config: options.DNSConfig, directory: Directory) -> NameDoor:
    host_names = HostNames(reactor, SystemResolver(reactor, AT_ONCE))
    ips = [host for host, _ in config.addresses if not ipaddress.ip_address(host).is_unspecified]
    server = NameServer(directory, config.zone, host_names, reactor, config.nameserver, ips)
    return NameDoor(DNSDoor(reactor, server, SourceLimit(config.rate, time.monotonic), config.addresses))


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except LookupError as error:
        raise CannotListen(f"cannot listen on {description}: no socket {error} was passed on to this process") from None
    except Exception as error:
        # Each kind of endpoint raises what it likes over a description it cannot read.
        _complain(f"--listen {description}: {error} (it is an endpoint, such as tcp:4000:interface=127.0.0.1)")
        raise SystemExit(options.USAGE_STATUS) from None
    return endpoint


def _monotonic() -> float:
    """Seconds since the machine booted, those it slept included, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read_boot_id() -> str:
    """What tells this boot of the machine from others; without it every start counts as a boot."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _on_hangup(reactor: Any, calls: Sequence[Callable[[], None]]) -> None:
    signal.signal(signal.SIGHUP, lambda *_: [reactor.callFromThread(call) for call in calls])


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
    """Once forked, only an exception reaches the twistd that the user waits for; it prints it and exits with 1."""
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

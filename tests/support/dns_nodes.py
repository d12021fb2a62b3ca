"""A double of rqlited 7.2-10.2 with `-disco-mode dns` or `dns-srv`: resolves as Go does, then
bootstraps as rqlited does.

The resolver is Go's own (net/dnsclient_unix.go), the lookups are those of rqlite-disco-clients' dns
and dnssrv, and what is done with their results is rqlite cluster/bootstrap.go. All in virtual time.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import dns.exception
import dns.message
import dns.rcode
from dns.flags import AA, QR, RA, TC

from tests.support.virtual import (
    BOTH_ENDPOINTS,
    NEW_ENDPOINTS,
    OLD_ENDPOINTS,
    PATIENCE,
    Endpoint,
    InFlight,
    Peer,
    Process,
    Service,
    VirtualNetwork,
    World,
    leader_of,
)

TRIES = 2
TRY_SECONDS = 5.0
EDNS_SIZE, PLAIN_SIZE = 1232, 512
RESTART_SECONDS = 5.0
_NAME = re.compile(r"(?=.{1,254}\Z)(?![0-9.]+\Z)(?:\w(?:[\w-]{0,61}\w)?\.)+\Z", re.ASCII)


class LookUpFailed(Exception):
    """A lookup without a result; the text is Go's error."""


class NoSuchHost(LookUpFailed):
    """The name does not exist, or has no record of the type; Go does not retry."""


class TimedOut(LookUpFailed):
    """No answer came in time."""


@dataclass(frozen=True)
class Records:
    """The requested records; `is_cut` where the answer was larger than the buffer and its last
    records are missing.
    """

    records: Sequence[Any]
    is_cut: bool


Result = Records | LookUpFailed


class GoResolver:
    """Go's own resolver with one server; `edns` from Go 1.19 on."""

    def __init__(self, world: World, service: Service, *, edns: bool = True) -> None:
        self._world = world
        self._service = service
        self._edns = edns

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name, of both families, queried at once. Raises
        LookUpFailed.
        """
        results = await self._look_up(name, "A", "AAAA")
        found = [record.address for each in results if isinstance(each, Records) for record in each.records]
        if not found:
            raise next(each for each in results if isinstance(each, LookUpFailed))
        return found

    async def services(self, service: str, name: str) -> list[tuple[str, int]]:
        """Return the targets and ports of a service, in any order within a priority. Raises
        LookUpFailed.
        """
        (result,) = await self._look_up(f"_{service}._tcp.{name}", "SRV")
        if isinstance(result, LookUpFailed):
            raise result
        if result.is_cut:
            raise LookUpFailed("cannot unmarshal DNS message")
        records = sorted(result.records, key=lambda record: (record.priority, self._world.random.random()))
        if not all(_NAME.match(record.target.to_text()) for record in records):
            raise LookUpFailed("DNS response contained records which contain invalid names")
        return [(record.target.to_text(), record.port) for record in records]

    async def _look_up(self, name: str, *types: str) -> list[Result]:
        """Return the results of concurrent queries, each of which is tried twice."""
        name = name if name.endswith(".") else f"{name}."
        if not _NAME.match(name):
            return [NoSuchHost("no such host")]
        queries = [self._query(name, type_) for type_ in types]
        results: list[Result] = [TimedOut() for _ in types]
        for _ in range(TRIES):
            left = [number for number, result in enumerate(results) if _is_attempted_again(result)]
            for number, result in zip(left, await self._ask([queries[number] for number in left]), strict=True):
                results[number] = result
        return results

    def _query(self, name: str, type_: str) -> dns.message.Message:
        id_ = self._world.random.randrange(1 << 16)
        if self._edns:
            return dns.message.make_query(name, type_, use_edns=0, payload=EDNS_SIZE, id=id_)
        return dns.message.make_query(name, type_, use_edns=False, id=id_)

    async def _ask(self, queries: Sequence[dns.message.Message]) -> list[Result]:
        """Query over UDP; the time without an answer passes for all concurrent queries at once."""
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in queries]
            results: list[Result] = []
            for query, datagrams in zip(queries, opened, strict=True):
                self._send(datagrams, query.to_wire())
            for query, datagrams in zip(queries, opened, strict=True):
                results.append(await self._finish(query, datagrams))
        if any(isinstance(result, TimedOut) for result in results):
            await self._world.sleep(TRY_SECONDS)
        return results

    def _send(self, connection: socket.socket, data: bytes) -> None:
        if self._service.dns is not None:
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", self._service.dns))
            connection.sendall(data)

    async def _finish(self, query: dns.message.Message, datagrams: socket.socket) -> Result:
        try:
            if self._service.dns is None:
                raise LookUpFailed("connection refused")
            reply = await InFlight(lambda: self._receive(query, datagrams))
            if reply.message.flags & TC:
                reply = await self._ask_over_tcp(query)
            return reply.records(query)
        except LookUpFailed as error:
            return error
        except OSError as error:
            return LookUpFailed(str(error))

    async def _ask_over_tcp(self, query: dns.message.Message) -> DNSReply:
        data = query.to_wire()
        with socket.socket() as connection:
            self._send(connection, len(data).to_bytes(2, "big") + data)
            with connection.makefile("rb") as stream:
                content = await InFlight(lambda: stream.read(int.from_bytes(stream.read(2), "big")))
        if not content:
            raise LookUpFailed("EOF")
        reply = _parse(content)
        if reply is None or not reply.is_to(query):
            raise LookUpFailed("invalid DNS response")
        return reply

    def _receive(self, query: dns.message.Message, datagrams: socket.socket) -> DNSReply:
        """Return the next datagram that answers `query`; others are ignored, because they may be
        forged.
        """
        size = EDNS_SIZE if self._edns else PLAIN_SIZE
        # Of a server that is gone, only what it already sent can be received.
        is_gone = datagrams.getpeername()[1] != self._service.dns
        patience = 0 if is_gone else PATIENCE if self._service.patience is None else self._service.patience
        while select.select([datagrams], [], [], patience)[0]:
            reply = _parse(datagrams.recv(size))
            if reply is not None and reply.is_to(query):
                return reply
        assert is_gone or self._service.patience is not None, "no answer"
        raise TimedOut("i/o timeout")


@dataclass(frozen=True)
class DNSReply:
    """A message from the server, as far as it could be read, and the number of answers in its
    header.
    """

    message: dns.message.Message
    count: int

    def is_to(self, query: dns.message.Message) -> bool:
        """Report whether the message answers `query`, ignoring case."""
        return bool(self.message.flags & QR and self.message.id == query.id and self.message.question == query.question)

    def records(self, query: dns.message.Message) -> Result:
        """Return the records that `query` requests. Raises LookUpFailed."""
        message, rcode = self.message, self.message.rcode()
        is_cut = len(message.answer) < self.count
        is_empty = not self.count and not message.additional and message.opt is None
        records = [answer[0] for answer in message.answer if answer.rdtype == query.question[0].rdtype]
        if rcode == dns.rcode.NXDOMAIN:
            raise NoSuchHost("no such host")
        if rcode == dns.rcode.NOERROR and not message.flags & (AA | RA) and is_empty:
            raise LookUpFailed("lame referral")
        if rcode != dns.rcode.NOERROR:
            raise LookUpFailed("server misbehaving")
        if not records:
            raise LookUpFailed("cannot unmarshal DNS message") if is_cut else NoSuchHost("no such host")
        return Records(records, is_cut)


def _parse(data: bytes) -> DNSReply | None:
    try:
        message = dns.message.from_wire(data, one_rr_per_rrset=True, continue_on_error=True)
    except dns.exception.DNSException:
        return None
    return DNSReply(message, int.from_bytes(data[6:8], "big"))


def _is_attempted_again(result: Result) -> bool:
    return isinstance(result, LookUpFailed) and not isinstance(result, NoSuchHost)


@dataclass(frozen=True)
class DNSRelease:
    """The differences between releases: which of a node's ports they use, how they resolve, and how
    often they try.

    `expects_all` is set up to v7.10.0: they wait until as many nodes are listed as are expected,
    and notify once. `members_ask` is set from v7.18.2 on: a node that is in a cluster looks up the
    others at each start.
    """

    name: str
    endpoint: Endpoint
    endpoints: frozenset[Endpoint]
    round_seconds: tuple[float, float]
    timeout_seconds: float = 120
    expects_all: bool = False
    members_ask: bool = True
    edns: bool = True
    brackets_ipv6: bool = False
    is_sorted: bool = False

    def target(self, ip: str, port: int) -> str:
        """An address to join."""
        return f"[{ip}]:{port}" if ":" in ip and self.brackets_ipv6 else f"{ip}:{port}"


RELEASES = (
    DNSRelease(
        "7.2", "http", OLD_ENDPOINTS, (5, 20), timeout_seconds=60, expects_all=True, members_ask=False, edns=False
    ),
    DNSRelease("7.10", "http", OLD_ENDPOINTS, (2, 4), expects_all=True, members_ask=False, edns=False),
    DNSRelease("7.21", "http", BOTH_ENDPOINTS, (2, 4)),
    DNSRelease("8.0", "raft", NEW_ENDPOINTS, (2, 4)),
    DNSRelease("8.39", "raft", NEW_ENDPOINTS, (1, 2), brackets_ipv6=True, is_sorted=True),
    DNSRelease("10.2", "raft", NEW_ENDPOINTS, (1, 2), brackets_ipv6=True, is_sorted=True),
)


class DNSNode(Process):
    """One rqlited with its data directory under a supervisor, which runs `prepare` first and
    restarts it when it exits with 1.
    """

    def __init__(
        self,
        release: DNSRelease,
        peer: Peer,
        mode: Literal["dns", "dns-srv"],
        name: str,
        service: Service,
        world: World,
        network: VirtualNetwork,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__(peer, world, network)
        self.release = release
        self.resolver = GoResolver(world, service, edns=release.edns)
        self.exits = 0
        self._mode = mode
        self._name = name
        self._prepare = prepare
        self._has_notified = False

    def start(self) -> None:
        self._has_notified = False
        try:
            self._prepare()
        except OSError as error:
            self._exit(repr(error))
        else:
            super().start()

    async def look_up(self) -> list[str]:
        """Return the addresses to join. Raises LookUpFailed."""
        if self._mode == "dns":
            port = int(
                (self.peer.http_addr if self.release.endpoint == "http" else self.peer.raft_addr).rpartition(":")[2]
            )
            found = [self.release.target(ip, port) for ip in await self.resolver.addresses(self._name)]
        else:
            found = []
            for target, port in await self.resolver.services(f"rqlite-{self.release.endpoint}", self._name):
                found += [self.release.target(ip, port) for ip in await self.resolver.addresses(target)]
        return sorted(found) if self.release.is_sorted else found

    async def main(self) -> None:
        """Bootstrapper.Boot: rounds until a leader is known, or the time is up.

        The first round is over before a restarted node can learn of a leader: so it looks up the
        others, and if nobody answers that takes as long as the resolver tries. It remains a member
        all the while.
        """
        world, ends = self._world, self._world.now + self.release.timeout_seconds
        if self.peer.expect and not self.peer.votes:
            self._end("bootstrapping only applicable to voting nodes")
            return
        if self.peer.cluster is not None and not self.release.members_ask:
            return
        await world.sleep(world.jitter(0.001))
        is_first = True
        while world.now < ends:
            next_round = world.now + world.random.uniform(*self.release.round_seconds)
            if (not is_first and leader_of(self.peer) is not None) or await self._round():
                return
            is_first = False
            await world.sleep(max(0.0, min(next_round, ends) - world.now))
        self._end("boot timeout")

    async def _round(self) -> bool:
        """Join through any of the listed nodes, or else notify each in turn up to the first
        failure.
        """
        try:
            targets = await self.look_up()
        except LookUpFailed as error:
            self.log.append(f"provider lookup failed {error}")
            return False
        if self.release.expects_all and len(targets) < self.peer.expect:
            return False
        if any(self._network.join(self.peer, target, self.release.endpoint) for target in targets):
            return True
        if self.peer.votes and not (self.release.expects_all and self._has_notified):
            self._has_notified = all(
                self._network.notify(self.peer, target, self.release.endpoint) for target in targets
            )
        return False

    def _end(self, why: str) -> None:
        self._network.switch(self.peer, on=False)
        self._exit(why)

    def _exit(self, why: str) -> None:
        self.exits += 1
        self.log.append(why)
        self.start_in(RESTART_SECONDS)

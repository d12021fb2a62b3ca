"""From a question to a reply: the zone's names, the directory's records, and the rules of an
authoritative server.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.names import dns

from rqdisco.core.directory import Directory
from rqdisco.core.dns_labels import from_dns_labels
from rqdisco.core.errors import AmbiguousName, NoSuchID
from rqdisco.core.host_ports import HostPort
from rqdisco.core.views import View
from rqdisco.dns import wire
from rqdisco.dns.wire import Data, Question, Reply
from rqdisco.dns.zone import NAMESERVER, Kind, Zone, has_ip, hosts, ip_of_label, node_label, of_family, places
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.probes.node_health import NodeHealth, without_down
from rqdisco.probes.resolution.host_names import HostNames

TTL = 1
_TRANSFERS = (251, 252)


class NameServer:
    """Answers for one zone. `nameserver` is the name in its NS record, `ips` are the addresses of
    that name, if it is the zone's own. Nodes that are down, by `node_health`, are left out of
    answers that hold others.
    """

    def __init__(
        self,
        directory: Directory,
        zone: Zone,
        host_names: HostNames,
        clock: IReactorTime,
        nameserver: str | None = None,
        ips: Sequence[str] = (),
        node_health: NodeHealth | None = None,
    ) -> None:
        self._directory = directory
        self._zone = zone
        self._hosts = host_names
        self._node_health = node_health
        self._clock = clock
        self._nameserver = (nameserver or f"{NAMESERVER}.{zone.name}").encode()
        # A name of our own zone is ours to answer for.
        self._own_name = zone.below(self._nameserver.decode())
        self._ips = () if self._own_name is None else ips
        self._throttle = LogThrottle(clock.seconds)
        self._log = Logger()

    async def reply(self, question: Question) -> Reply:
        """What to answer; every question has an answer."""
        if question.problem:
            return Reply(rcode=question.problem, is_authoritative=False)
        name = question.name.decode("latin-1").lower()
        below = self._zone.below(name)
        if below is None or question.cls != dns.IN or question.type in _TRANSFERS:
            return Reply(rcode=wire.REFUSED, is_authoritative=False)
        try:
            return await self._answer(question, below)
        except NoSuchID:
            # A name that only has others below it exists too (RFC 8020).
            is_above = await self._directory.is_above(below)
            return self._nothing(question, wire.NOERROR if is_above else wire.NXDOMAIN)
        except AmbiguousName:
            self._warn(name)
            return Reply(rcode=wire.SERVFAIL)

    async def _answer(self, question: Question, below: str) -> Reply:
        """Raises NoSuchID where there is nothing of that name, AmbiguousName."""
        if not below:
            return self._apex(question)
        if below == self._own_name:
            return self._with_ips(question, self._ips)
        asked = self._zone.service(below)
        if asked is not None:
            record = await self._find(asked.labels)
            return self._nothing(question) if asked.kind is None else await self._services(question, record, asked.kind)
        # Before the IDs: services point there, and an ID of that form must not catch those who
        # follow.
        ip = await self._ip_of_node(below)
        return await self._machines(question, await self._find(below)) if ip is None else self._with_ips(question, [ip])

    async def _find(self, labels: str) -> View:
        """The record of the ID that `labels` are, escaped or as they are. Raises NoSuchID,
        AmbiguousName.
        """
        escaped = from_dns_labels(labels)
        if escaped is not None:
            try:
                return await self._directory.look_up(escaped)
            except NoSuchID:
                pass
        return await self._directory.look_up_name(labels)

    async def _ip_of_node(self, below: str) -> str | None:
        """The address that `n-0a000001.ID` stands for, if a node of the ID is there. Raises
        AmbiguousName.
        """
        label, _, labels = below.partition(".")
        ip = ip_of_label(label)
        if ip is None:
            return None
        try:
            record = await self._find(labels)
        except NoSuchID:
            return None
        return ip if has_ip(record, ip) else None

    async def _machines(self, question: Question, record: View) -> Reply:
        if question.type not in (dns.A, dns.AAAA, dns.ALL_RECORDS):
            return self._nothing(question)
        reply = self._nothing(question)
        for nodes in self._preferred(record):
            ips = await self._resolved(record.id, hosts(nodes))
            reply = self._with_ips(question, [ip for each in ips.values() for ip in each])
            if reply.answers:
                break
        return reply

    async def _services(self, question: Question, record: View, kind: Kind) -> Reply:
        reply = self._nothing(question)
        for nodes in self._preferred(record):
            reply = await self._services_of(question, nodes, kind)
            if reply.answers:
                break
        return reply

    def _preferred(self, record: View) -> list[View]:
        """The record without the nodes that are down, if there are any; and all of it, for want of
        others.
        """
        left = without_down(record, self._node_health)
        return [record] if left is record else [left, record]

    async def _services_of(self, question: Question, record: View, kind: Kind) -> Reply:
        found = places(record, kind) if question.type in (dns.SRV, dns.ALL_RECORDS) else []
        ips = await self._resolved(record.id, found)
        answers: list[Data] = []
        additional: dict[bytes, Data] = {}
        # What comes before the ID in the question, `_service._tcp`, is no part of the names of its
        # nodes.
        above = question.name.split(b".", 2)[2]
        for each in found:
            if not ips[each.host]:
                continue
            target = node_label(each.host).encode() + b"." + above if each.is_ip else each.host.encode()
            answers.append(wire.service(question.name, each.port, target, TTL))
            if each.is_ip:
                additional[target] = wire.address(target, each.host, TTL)
        if not answers:
            return self._nothing(question)
        return Reply(answers=answers, additional=list(additional.values()))

    async def _resolved(self, discovery_id: str, found: Sequence[HostPort]) -> dict[str, Sequence[str]]:
        """The addresses of each host; names of our own zone would have us ask ourselves, and are
        left out.
        """
        ips: dict[str, Sequence[str]] = {each.host: [each.host] if each.is_ip else () for each in found}
        names = [each.host for each in found if not each.is_ip and self._zone.below(each.host) is None]
        resolved = await self._hosts.addresses(discovery_id, names)
        return ips | {name: each.ips for name, each in resolved.items()}

    def _apex(self, question: Question) -> Reply:
        if question.type in (dns.SOA, dns.ALL_RECORDS):
            return Reply(answers=[self._soa(question)])
        if question.type == dns.NS:
            ns = wire.nameserver(question.name, self._nameserver, TTL)
            return Reply(answers=[ns], additional=[wire.address(self._nameserver, ip, TTL) for ip in self._ips])
        return self._nothing(question)

    def _with_ips(self, question: Question, ips: Sequence[str]) -> Reply:
        """Those of the family that is asked for; to ANY, one of the families (RFC 8482)."""
        v4, v6 = of_family(ips, v6=False), of_family(ips, v6=True)
        wanted = {dns.A: v4, dns.AAAA: v6, dns.ALL_RECORDS: v4 or v6}.get(question.type, [])
        if not wanted:
            return self._nothing(question)
        return Reply(answers=[wire.address(question.name, ip, TTL) for ip in wanted])

    def _nothing(self, question: Question, rcode: int = wire.NOERROR) -> Reply:
        """There is no such name, or nothing of that type under it (RFC 2308 section 2)."""
        return Reply(rcode=rcode, authority=[self._soa(question)])

    def _soa(self, question: Question) -> Data:
        return wire.start_of_authority(self._apex_name(question), self._nameserver, self._directory.index, TTL)

    def _apex_name(self, question: Question) -> bytes:
        """The zone, written as the question has it."""
        return question.name[-len(self._zone.name) :]

    def _warn(self, name: str) -> None:
        if self._throttle.is_due():
            self._log.warn("IDs that differ by case only cannot be told apart by DNS", name=name)

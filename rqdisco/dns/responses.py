"""The authoritative name server of the zone: from a question and the directory to a reply."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.names import dns

from rqdisco.core.directory import Names
from rqdisco.core.dns_labels import from_escaped_labels
from rqdisco.core.errors import AmbiguousName, NoSuchID
from rqdisco.core.host_ports import HostPort
from rqdisco.core.views import View
from rqdisco.dns import wire
from rqdisco.dns.wire import Question, Reply, ResourceRecord
from rqdisco.dns.zone import (
    NAMESERVER,
    Kind,
    Zone,
    has_ip,
    ip_of_label,
    node_hosts,
    node_label,
    of_family,
    service_addresses,
)
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.probes.node_health import NodeHealth, without_down
from rqdisco.probes.resolution.host_names import HostNames

TTL = 1
_TRANSFERS = (251, 252)


class NameServer:
    """Answers queries for one zone. `nameserver` is the name in its NS record; `ips` are the
    addresses of that name if it is in the zone. Answers omit nodes that are down by `node_health`,
    unless all are.
    """

    def __init__(
        self,
        directory: Names,
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
        self._own_name = zone.below(self._nameserver.decode())
        self._ips = () if self._own_name is None else ips
        self._throttle = LogThrottle(clock.seconds)
        self._log = Logger()

    async def reply(self, question: Question) -> Reply:
        """Return the reply to any question."""
        if question.problem:
            return Reply(rcode=question.problem, is_authoritative=False)
        name = question.name.decode("latin-1").lower()
        below = self._zone.below(name)
        if below is None or question.cls != dns.IN or question.type in _TRANSFERS:
            return Reply(rcode=wire.REFUSED, is_authoritative=False)
        try:
            return await self._answer(question, below)
        except NoSuchID:
            # A name that only has names below it exists too (RFC 8020).
            has_subdomains = await self._directory.has_subdomains(below)
            return self._empty(question, wire.NOERROR if has_subdomains else wire.NXDOMAIN)
        except AmbiguousName:
            self._warn_ambiguous(name)
            return Reply(rcode=wire.SERVFAIL)

    async def _answer(self, question: Question, below: str) -> Reply:
        """Answer for a name in the zone. Raises NoSuchID, AmbiguousName."""
        if not below:
            return self._apex(question)
        if below == self._own_name:
            return self._addresses(question, self._ips)
        service = self._zone.service(below)
        if service is not None:
            record = await self._find(service.labels)
            if service.kind is None:
                return self._empty(question)
            return await self._answer_services(question, record, service.kind)
        # Before the IDs: services point to these names, and an ID of that form must not hide them.
        ip = await self._ip_of_node(below)
        return (
            await self._answer_hosts(question, await self._find(below))
            if ip is None
            else self._addresses(question, [ip])
        )

    async def _find(self, labels: str) -> View:
        """Return the record of the ID with these labels, escaped or literal. Raises NoSuchID,
        AmbiguousName.
        """
        escaped = from_escaped_labels(labels)
        if escaped is not None:
            try:
                return await self._directory.look_up(escaped)
            except NoSuchID:
                pass
        return await self._directory.look_up_name(labels)

    async def _ip_of_node(self, below: str) -> str | None:
        """Return the address of a name like `n-0a000001.ID`, if a node of the ID has it. Raises
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

    async def _answer_hosts(self, question: Question, record: View) -> Reply:
        if question.type not in (dns.A, dns.AAAA, dns.ALL_RECORDS):
            return self._empty(question)
        reply = self._empty(question)
        for nodes in self._by_preference(record):
            ips = await self._resolve(record.id, node_hosts(nodes))
            reply = self._addresses(question, [ip for each in ips.values() for ip in each])
            if reply.answers:
                break
        return reply

    async def _answer_services(self, question: Question, record: View, kind: Kind) -> Reply:
        reply = self._empty(question)
        for nodes in self._by_preference(record):
            reply = await self._service_reply(question, nodes, kind)
            if reply.answers:
                break
        return reply

    def _by_preference(self, record: View) -> list[View]:
        """Return the record without the nodes that are down, and the whole record as a fallback."""
        left = without_down(record, self._node_health)
        return [record] if left is record else [left, record]

    async def _service_reply(self, question: Question, record: View, kind: Kind) -> Reply:
        addrs = service_addresses(record, kind) if question.type in (dns.SRV, dns.ALL_RECORDS) else []
        ips = await self._resolve(record.id, addrs)
        answers: list[ResourceRecord] = []
        additional: dict[bytes, ResourceRecord] = {}
        # The names of the nodes are below the ID, without `_service._tcp`.
        parent = question.name.split(b".", 2)[2]
        for addr in addrs:
            if not ips[addr.host]:
                continue
            target = node_label(addr.host).encode() + b"." + parent if addr.is_ip else addr.host.encode()
            answers.append(wire.srv_record(question.name, addr.port, target, TTL))
            if addr.is_ip:
                additional[target] = wire.address_record(target, addr.host, TTL)
        if not answers:
            return self._empty(question)
        return Reply(answers=answers, additional=list(additional.values()))

    async def _resolve(self, discovery_id: str, addrs: Sequence[HostPort]) -> dict[str, Sequence[str]]:
        """Return the IP addresses of each host. Names in the zone itself are not resolved, since
        that would query this server.
        """
        ips: dict[str, Sequence[str]] = {each.host: [each.host] if each.is_ip else () for each in addrs}
        names = [each.host for each in addrs if not each.is_ip and self._zone.below(each.host) is None]
        resolved = await self._hosts.addresses(discovery_id, names)
        return ips | {name: each.ips for name, each in resolved.items()}

    def _apex(self, question: Question) -> Reply:
        if question.type in (dns.SOA, dns.ALL_RECORDS):
            return Reply(answers=[self._soa(question)])
        if question.type == dns.NS:
            ns = wire.ns_record(question.name, self._nameserver, TTL)
            return Reply(answers=[ns], additional=[wire.address_record(self._nameserver, ip, TTL) for ip in self._ips])
        return self._empty(question)

    def _addresses(self, question: Question, ips: Sequence[str]) -> Reply:
        """Answer with the addresses of the requested family, for ANY with one family (RFC 8482)."""
        v4, v6 = of_family(ips, v6=False), of_family(ips, v6=True)
        wanted = {dns.A: v4, dns.AAAA: v6, dns.ALL_RECORDS: v4 or v6}.get(question.type, [])
        if not wanted:
            return self._empty(question)
        return Reply(answers=[wire.address_record(question.name, ip, TTL) for ip in wanted])

    def _empty(self, question: Question, rcode: int = wire.NOERROR) -> Reply:
        """Answer that the name or the type does not exist (RFC 2308 section 2)."""
        return Reply(rcode=rcode, authority=[self._soa(question)])

    def _soa(self, question: Question) -> ResourceRecord:
        return wire.soa_record(self._apex_name(question), self._nameserver, self._directory.index, TTL)

    def _apex_name(self, question: Question) -> bytes:
        """Return the name of the zone with the capitalization of the question."""
        return question.name[-len(self._zone.name) :]

    def _warn_ambiguous(self, name: str) -> None:
        if self._throttle.is_due():
            self._log.warn("IDs that differ only by case cannot be distinguished in DNS", name=name)

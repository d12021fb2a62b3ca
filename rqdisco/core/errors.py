"""The errors that a client or an operator sees.

RequestRefused: the request is at fault, or not allowed. StoreUnavailable: the daemon cannot answer
now. `http.requests.responses` maps both to HTTP statuses. CannotStart: the daemon does not start;
`tap` maps it to an exit status.

Between peers refusals travel under names of the protocol, which `backends.gossip.core.calls`
defines: mostly the class names, so renaming a class may need an entry there.
"""

from __future__ import annotations


class RequestRefused(Exception):
    """A request that cannot be carried out."""


class NoSuchID(RequestRefused):
    """There is no such discovery ID."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id[:64]} does not exist")


class UnknownCreatedID(NoSuchID):
    """No daemon has the ID, although it has the form of those that daemons create: the one that
    created it lost its state.

    A claim must not create it anew, since a cluster may exist under it (rule R7).
    """

    def __init__(self, discovery_id: str) -> None:
        super().__init__(discovery_id)
        self.why = f"discovery ID {discovery_id[:64]} was created by a daemon that no longer knows it, create a new one"


class AmbiguousName(RequestRefused):
    """Several discovery IDs match a name that is compared without case."""

    def __init__(self, name: str) -> None:
        super().__init__(f"several discovery IDs differ from {name} only in case")


class InvalidValue(RequestRefused):
    """A value of the request cannot be registered.

    `what` names the value ("address", "raft_addr", "node_id"), `why` what is wrong with it.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"invalid {what}: {why}")
        self.what = what
        self.why = why


class MisleadingAddress(RequestRefused):
    """An address at which other machines cannot reach the node; refused only in strict mode."""


class LoopbackConflict(RequestRefused):
    """A loopback address, registered or in the request, would be shared by nodes of several
    machines (rule R5d).
    """


class HostNotAllowed(RequestRefused):
    """The Host header names `host`, which is not a name of this machine, though only this machine
    is served; None for a request without a host.
    """

    def __init__(self, host: str | None) -> None:
        if host is None:
            super().__init__("the Host header names no machine")
        else:
            name = host[:64]
            super().__init__(f"{name} is not a name of this machine; to allow it, start rqdisco with --host {name}")


class ImportConflict(RequestRefused):
    """An imported ID exists already, with other nodes or another leader."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id} already exists with other content")


class IDExists(RequestRefused):
    """An ID of this name cannot be created, since there is one already."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id[:64]} exists already")


class TooManyNodes(RequestRefused):
    """The ID already has as many nodes as one may have."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"too many nodes for {discovery_id}")


class TooManyIDs(RequestRefused):
    """This daemon already stores as many IDs as it may."""

    def __init__(self) -> None:
        super().__init__("too many discovery IDs")


class TooManyWatchers(RequestRefused):
    """The limit of clients that watch IDs, or this one ID, is reached."""

    def __init__(self) -> None:
        super().__init__("too many watchers, poll instead")


class TooManyRequests(RequestRefused):
    """A client exceeded its rate limit; its next one is allowed in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds


class TooManyCreations(TooManyRequests):
    """A client exceeded its rate limit for creating IDs."""


class TooBusy(RequestRefused):
    """As much expensive work as may be done at once went on for as long as the request could wait."""

    def __init__(self) -> None:
        super().__init__("too busy, try again later")


class Ownerless(RequestRefused):
    """The ID lost its owner, so no node can be told to bootstrap under it (rule R7)."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id} has no owner and cannot seed a cluster, create a new ID")


class NoSuccessor(RequestRefused):
    """No other daemon can become the owner of these IDs now; the text gives the reason."""


class AlreadyFrozen(RequestRefused):
    """The daemon is frozen for another reason, which the text gives."""


class NotAuthenticated(RequestRefused):
    """The caller sent no valid token; `was_given` tells an unknown token from none."""

    def __init__(self, *, was_given: bool) -> None:
        super().__init__("unknown token" if was_given else "authentication required")
        self.was_given = was_given


class NotAllowed(RequestRefused):
    """The caller's token, named `token`, lacks the right. The error does not reveal whether the ID
    exists.
    """

    def __init__(self, token: str, right: str, discovery_id: str | None) -> None:
        of = "" if discovery_id is None else f" {discovery_id[:64]}"
        super().__init__(f"token may not {'administer' if right == 'admin' else right}{of}")
        self.token = token


class StoreUnavailable(Exception):
    """The answer cannot be made durable now, for `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__("store unavailable")
        self.reason = reason


class EtcdUnavailable(StoreUnavailable):
    """etcd, which stores the records, does not answer or has no quorum."""


class EtcdFull(EtcdUnavailable):
    """etcd has no space left for changes."""


class EtcdDenied(EtcdUnavailable):
    """etcd refuses this daemon's user, password or permission."""


class Undecided(StoreUnavailable):
    """Nothing can be decided about an ID here and now, for a `reason` other than the disk."""

    def __str__(self) -> str:
        return self.reason


class NotReady(Undecided):
    """The owner of an ID does not decide now: it has not exchanged with every member since it
    started, is fenced, or hands over.

    Lists may be answered on its behalf (rules R4 and R8).
    """


class OwnerUnreachable(Undecided):
    """The owner of an ID did not answer, so another daemon may list on its behalf (rule R4)."""


class Frozen(Undecided):
    """An operator froze the daemon for `reason`; it changes nothing, and nothing is answered on its
    behalf.
    """


# What a request may end with: each is an answer, not a bug.
REFUSALS = (RequestRefused, StoreUnavailable)


class CannotStart(Exception):
    """The daemon refuses to start. The text is one line: the file, the place, and what to do."""


class BadEndpoint(CannotStart):
    """An option does not name a valid endpoint to listen on."""


class DamagedState(CannotStart):
    """A file of the state directory, or the store in etcd, is damaged."""


class UnknownFormat(CannotStart):
    """A file of the state directory, or the store in etcd, was written by a newer release."""


class StateInUse(CannotStart):
    """Another daemon uses the state directory."""


class CopiedState(CannotStart):
    """The state directory is a copy of one that may still be alive elsewhere (rule R1)."""


class StateUnusable(CannotStart):
    """The state directory cannot be read or written."""


class KeysUnusable(CannotStart):
    """There is no key to authenticate peers with."""


class TokensUnusable(CannotStart):
    """The token file cannot be read."""


class TLSUnusable(CannotStart):
    """A key or certificate file cannot be used."""


class ParserMissing(CannotStart):
    """The HTTP parser cannot be imported."""


class PeersMissing(CannotStart):
    """The state directory belongs to one of several peers, and the options name no peers (rule
    R8).
    """


class EtcdUnusable(CannotStart):
    """etcd does not answer, or its version cannot be used."""


class EtcdAccessDenied(CannotStart):
    """etcd refuses the user, the password or a permission, or there is no password."""


class CannotListen(CannotStart):
    """An address to listen on is in use, or not of this machine."""


class UnprotectedListener(CannotListen):
    """An address can be reached from other machines, and the options name neither tokens nor
    open access.
    """

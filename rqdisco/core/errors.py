"""What can go wrong, in the words of the domain. Status codes and exit codes are given
elsewhere.
"""

from __future__ import annotations


class RequestRefused(Exception):
    """A request that cannot be carried out as it was asked."""


class NoSuchID(RequestRefused):
    """The discovery ID was never minted here."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id[:64]} does not exist")


class UnknownCreatedID(NoSuchID):
    """The ID has the form of those that daemons create, and no daemon knows it: whoever created it
    lost its state.

    A claim must not create it anew, since a cluster may exist under it (rule R7).
    """

    def __init__(self, discovery_id: str) -> None:
        super().__init__(discovery_id)
        self.why = f"discovery ID {discovery_id[:64]} was created by a daemon that no longer knows it, create a new one"


class AmbiguousName(RequestRefused):
    """Several discovery IDs differ by case only, and were asked for by a name in which case does
    not count.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"several discovery IDs are {name} but for case")


class InvalidValue(RequestRefused):
    """A value of the request is not one that can be registered.

    `what` is what the value was meant to be ("address", "raft_addr", "node_id"), `why` what is
    wrong with it.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"invalid {what}: {why}")
        self.what = what
        self.why = why


class MisleadingAddress(RequestRefused):
    """An address that other machines cannot reach this node by; refused only where addresses are
    checked strictly.
    """


class WrongHost(RequestRefused):
    """A loopback address is registered, or would be, and nodes of several machines cannot share it
    (rule R5d).
    """


class ForeignHost(RequestRefused):
    """The request is for a host that is not this machine, though only this machine is served; None
    if it names none.
    """

    def __init__(self, host: str | None) -> None:
        if host is None:
            super().__init__("the Host header names no machine")
        else:
            name = host[:64]
            super().__init__(f"{name} is not a name of this machine; to allow it, start rqdisco with --host {name}")


class AlreadyKnown(RequestRefused):
    """An ID that would be imported exists already, and says something else."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id} exists already and says something else")


class TooManyNodes(RequestRefused):
    """One node more than an ID may hold."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"too many nodes for {discovery_id}")


class TooManyIDs(RequestRefused):
    """One ID more than this daemon is allowed to hold."""

    def __init__(self) -> None:
        super().__init__("too many discovery IDs")


class TooManyWatchers(RequestRefused):
    """One client more than may watch IDs, or this one ID, at the same time."""

    def __init__(self) -> None:
        super().__init__("too many watchers, ask now and then instead")


class TooManyRequests(RequestRefused):
    """More than one client may ask for now; `seconds` until it may ask again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds


class TooManyCreations(TooManyRequests):
    """More IDs than one client may mint now."""


class Ownerless(RequestRefused):
    """The ID's home is lost, so nobody can be told to bootstrap under it (rule R7)."""

    def __init__(self, discovery_id: str) -> None:
        super().__init__(f"{discovery_id} lost its home and cannot seed a cluster, mint a new ID")


class CannotSucceed(RequestRefused):
    """No other daemon becomes the home of these IDs now; the text says why."""


class NotAuthenticated(RequestRefused):
    """The caller has no token that is known here; `was_given` says whether there was any."""

    def __init__(self, *, was_given: bool) -> None:
        super().__init__("unknown token" if was_given else "authentication required")
        self.was_given = was_given


class NotAllowed(RequestRefused):
    """The caller's token, `token` by name, has no right to this; whether there is such an ID is not
    said.
    """

    def __init__(self, token: str, right: str, discovery_id: str | None) -> None:
        of = "" if discovery_id is None else f" {discovery_id[:64]}"
        super().__init__(f"token may not {'administer' if right == 'admin' else right}{of}")
        self.token = token


class StoreUnavailable(Exception):
    """The answer cannot be made durable now; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__("store unavailable")
        self.reason = reason


class Undecided(StoreUnavailable):
    """Nothing can be decided about an ID here and now, though the disk is well; `reason` says
    why.
    """

    def __str__(self) -> str:
        return self.reason


class NotReady(Undecided):
    """The owner of an ID does not decide now: it has not heard every member since it started, is
    fenced, or hands over.

    Lists may be answered on its behalf (rules R4 and R8).
    """


class OwnerUnreachable(Undecided):
    """The owner of an ID did not answer, so another daemon may list on its behalf (rule R4)."""


class CannotStart(Exception):
    """The daemon refuses to start. The text is one line: which file, where, and what to do."""


class BadEndpoint(CannotStart):
    """What an option says of where to listen is no endpoint."""


class DamagedState(CannotStart):
    """A file of the state directory does not say what was written to it."""


class UnknownFormat(CannotStart):
    """A file of the state directory was written by a newer release."""


class StateInUse(CannotStart):
    """Another daemon works on the state directory."""


class CopiedState(CannotStart):
    """The state directory is a copy of one that may still be alive elsewhere (rule R1)."""


class StateUnusable(CannotStart):
    """The state directory cannot be read or written."""


class KeysUnusable(CannotStart):
    """There is no key that peers could be told by."""


class TokensUnusable(CannotStart):
    """The file of tokens cannot be read."""


class TLSUnusable(CannotStart):
    """A file of a key or of certificates cannot be used."""


class PeersMissing(CannotStart):
    """The state directory belongs to one of several peers, and the options say nothing of them
    (rule R8).
    """


class CannotListen(CannotStart):
    """An address to listen on is taken, or not ours."""


class OpenToOthers(CannotListen):
    """What is listened on can be reached from other machines, and nothing says who may ask
    there.
    """

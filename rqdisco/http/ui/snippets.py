"""The commands on the page of an ID: one for each node, version of rqlite and way to run it, around
the flags that `rqdisco flags` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rqdisco.node_commands import NodeCommand, Platform, make_command
from rqdisco.recipes.flags import FlagsRequest, Mode, make_flags
from rqdisco.recipes.parsing import Unsupported

PLATFORMS: tuple[tuple[Platform, str], ...] = (
    ("shell", "Plain"),
    ("systemd", "systemd"),
    ("docker", "Docker"),
    ("compose", "Compose"),
    ("k8s", "Kubernetes"),
)
# A label, a version that stands for all of them, and the discovery mode.
_BY_HTTP: tuple[tuple[str, str, Mode], ...] = (
    ("rqlite 7 to 10", "10", "consul-kv"),
    ("4.0 to 6.10", "6", "legacy"),
    ("3.12 to 3.14", "3", "legacy"),
)
_BY_NAME: tuple[tuple[str, str, Mode], ...] = (
    ("8 to 10, by DNS SRV", "10", "dns-srv"),
    ("8 to 10, by DNS", "10", "dns"),
)


class Snippet(msgspec.Struct, frozen=True):
    """The command that starts a node of one generation of rqlite, by its index, on one platform.
    `number` is that of the node, None if the command is for all of them; `error` explains why there
    is no command.
    """

    generation: int
    platform: Platform
    number: int | None
    command: NodeCommand = NodeCommand("")
    error: str = ""


def generations(zone: str | None) -> Sequence[str]:
    """Return the labels of all generations; a DNS zone adds some."""
    return [name for name, _, _ in _generations(zone)]


def requests(discovery_id: str, url: str, zone: str | None, *, requires_token: bool) -> Sequence[FlagsRequest]:
    """Return a request for each generation, for the service at `url`, with a placeholder for a
    token if the service requires one.
    """
    with_token = url.replace("://", "://x:TOKEN@", 1) if requires_token and "@" not in url else url
    return [
        FlagsRequest(
            discovery_id=discovery_id,
            version=version,
            mode=mode,
            url=url if mode.startswith("dns") else with_token,
            zone=zone if mode.startswith("dns") else None,
            exists=True,
            is_complete=True,
        )
        for _, version, mode in _generations(zone)
    ]


def snippets(requests: Sequence[FlagsRequest], numbers: Sequence[int]) -> Iterator[Snippet]:
    """Yield the commands for the nodes with these numbers, for each generation and platform."""
    for generation, request in enumerate(requests):
        for platform, _ in PLATFORMS:
            for number in numbers:
                shown = None if platform == "k8s" else number
                try:
                    yield Snippet(generation, platform, shown, make_command(request, platform, number))
                except Unsupported as error:
                    yield Snippet(generation, platform, None, error=str(error))
                    break
                if shown is None:
                    break


def notes(request: FlagsRequest) -> Sequence[str]:
    """Return what to know about the commands of a generation."""
    try:
        found = make_flags(request).notes
    except Unsupported:
        return ()
    if "TOKEN@" not in request.url:
        return found
    return (f"replace TOKEN by a token: `rqdisco token new NAME --id {request.discovery_id}` creates one", *found)


def _generations(zone: str | None) -> Sequence[tuple[str, str, Mode]]:
    return _BY_HTTP if zone is None else (*_BY_HTTP, *_BY_NAME)

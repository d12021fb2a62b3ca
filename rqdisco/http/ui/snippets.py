"""The flags that the page of an ID offers: what `rqdisco flags` prints, for every rqlite and way of
running it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rqdisco.recipes import FlagsRequest, Mode, Target, Unsupported, make_flags, quote_flags

TARGETS: tuple[tuple[Target, str], ...] = (
    ("shell", "Shell"),
    ("systemd", "systemd"),
    ("compose", "Compose"),
    ("k8s", "Kubernetes"),
)
# How it is called, the version that stands for all of them, and how it asks.
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
    """Flags for one rqlite, by its place among the generations, and one way of running it;
    `trouble` says why there are none.
    """

    generation: int
    target: Target
    text: str
    notes: tuple[str, ...] = ()
    trouble: str = ""


def generations(zone: str | None) -> Sequence[str]:
    """What each of them is called. With a DNS zone there are more ways to ask."""
    return [name for name, _, _ in _generations(zone)]


def snippets(discovery_id: str, url: str, zone: str | None, *, asks_for_tokens: bool) -> Sequence[Snippet]:
    """All flags for an ID of the service at `url`; a token has a place in them where the service
    asks for one.
    """
    return list(_snippets(discovery_id, url, zone, asks_for_tokens))


def _snippets(discovery_id: str, url: str, zone: str | None, asks_for_tokens: bool) -> Iterator[Snippet]:
    needs_one = asks_for_tokens and "@" not in url
    more = (f"put a token in the place of TOKEN: `rqdisco token new NAME --id {discovery_id}` makes one",)
    for number, (_, version, mode) in enumerate(_generations(zone)):
        by_name = mode.startswith("dns")
        request = FlagsRequest(
            discovery_id=discovery_id,
            version=version,
            mode=mode,
            url=url.replace("://", "://x:TOKEN@", 1) if needs_one and not by_name else url,
            zone=zone if by_name else None,
        )
        try:
            flags = make_flags(request)
        except Unsupported as error:
            yield from (Snippet(number, target, "", trouble=str(error)) for target, _ in TARGETS)
            continue
        notes = (*more, *flags.notes) if needs_one and not by_name else flags.notes
        for target, _ in TARGETS:
            yield Snippet(number, target, quote_flags(target, flags.arguments), notes)


def _generations(zone: str | None) -> Sequence[tuple[str, str, Mode]]:
    return _BY_HTTP if zone is None else (*_BY_HTTP, *_BY_NAME)

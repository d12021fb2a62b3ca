"""The flags on the page of an ID: the output of `rqdisco flags` for all versions of rqlite and ways
to run it.
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
    """The flags for one generation of rqlite, by its index, and one way to run it; `error` explains
    why there are none.
    """

    generation: int
    target: Target
    text: str
    notes: tuple[str, ...] = ()
    error: str = ""


def generations(zone: str | None) -> Sequence[str]:
    """Return the labels of all generations; a DNS zone adds some."""
    return [name for name, _, _ in _generations(zone)]


def snippets(discovery_id: str, url: str, zone: str | None, *, requires_token: bool) -> Sequence[Snippet]:
    """Return all flags for an ID of the service at `url`, with a placeholder for a token if the
    service requires one.
    """
    return list(_snippets(discovery_id, url, zone, requires_token))


def _snippets(discovery_id: str, url: str, zone: str | None, requires_token: bool) -> Iterator[Snippet]:
    needs_token = requires_token and "@" not in url
    token_note = f"replace TOKEN by a token: `rqdisco token new NAME --id {discovery_id}` creates one"
    for number, (_, version, mode) in enumerate(_generations(zone)):
        by_name = mode.startswith("dns")
        request = FlagsRequest(
            discovery_id=discovery_id,
            version=version,
            mode=mode,
            url=url.replace("://", "://x:TOKEN@", 1) if needs_token and not by_name else url,
            zone=zone if by_name else None,
            exists=True,
        )
        try:
            flags = make_flags(request)
        except Unsupported as error:
            yield from (Snippet(number, target, "", error=str(error)) for target, _ in TARGETS)
            continue
        notes = (token_note, *flags.notes) if needs_token and not by_name else flags.notes
        for target, _ in TARGETS:
            yield Snippet(number, target, quote_flags(target, flags.arguments), notes)


def _generations(zone: str | None) -> Sequence[tuple[str, str, Mode]]:
    return _BY_HTTP if zone is None else (*_BY_HTTP, *_BY_NAME)

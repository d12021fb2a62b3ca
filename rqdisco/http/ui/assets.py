"""The files that pages are made of, read once: templates, and what is sent as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

import msgspec
from twisted.web.template import XMLString

_TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


class Assets(msgspec.Struct, frozen=True):
    """Templates by name; files by name, each with its content type, and the path that all of them
    are below.

    The path changes with any of them, so browsers may keep them for good.
    """

    templates: Mapping[str, XMLString]
    files: Mapping[str, tuple[bytes, bytes]]
    path: str


def read_assets() -> Assets:
    """Read all of them from the package."""
    here = files(__package__)
    templates = {
        entry.name.removesuffix(".xml"): XMLString(entry.read_text("utf-8"))
        for entry in (here / "templates").iterdir()
        if entry.name.endswith(".xml")
    }
    found = {}
    digest = hashlib.sha256()
    for entry in sorted((here / "static").iterdir(), key=lambda each: each.name):
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            found[entry.name] = content, kind
            digest.update(entry.name.encode() + b"\0" + content)
    return Assets(templates, found, f"/static/{digest.hexdigest()[:16]}/")

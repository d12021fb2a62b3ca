"""Templates and static files of the pages, read once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
from twisted.web.template import XMLString

_TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


class Assets(msgspec.Struct, frozen=True):
    """Templates by name, files by name with content and content type, and the path of all files.

    The path changes with the content of any file, so browsers may cache them for ever.
    """

    templates: Mapping[str, XMLString]
    files: Mapping[str, tuple[bytes, bytes]]
    path: str


@cache
def read_assets() -> Assets:
    """Read all assets from the package."""
    package = files(__package__)
    templates = {
        entry.name.removesuffix(".xml"): XMLString(entry.read_text("utf-8"))
        for entry in (package / "templates").iterdir()
        if entry.name.endswith(".xml")
    }
    static = {}
    digest = hashlib.sha256()
    for entry in sorted((package / "static").iterdir(), key=lambda each: each.name):
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            static[entry.name] = content, kind
            digest.update(entry.name.encode() + b"\0" + content)
    return Assets(templates, static, f"/static/{digest.hexdigest()[:16]}/")

"""Documents that are neither encoded nor decoded as a struct: handlers check registrations member
by member and store leader values as they are, and exports are written piece by piece.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rqdisco.core.addresses import MAX_TEXT_BYTES
from rqdisco.core.exports import TransferredRecord

# White space and control characters, as str.isspace and the category Cc, for any dialect of regular
# expressions.
_SPACES = r"\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _text(before: str = "") -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_BYTES, "pattern": f"^{before}[^{_SPACES}]+$"}


_DESCRIPTION = f"Up to {MAX_TEXT_BYTES} bytes of UTF-8 without white space and control characters."
# Any: the constraints that msgspec would check are in the schema alone.
_Text = Annotated[Any, Meta(description=_DESCRIPTION, extra_json_schema=_text())]
_TextOrNull = Annotated[Any, Meta(extra_json_schema={"anyOf": [_text(), {"type": "null"}]})]
_TextOrEmpty = Annotated[Any, Meta(extra_json_schema={"anyOf": [_text(), {"enum": ["", None]}]})]
_URLOrEmpty = Annotated[Any, Meta(extra_json_schema={"anyOf": [_text("(?!https?://$)"), {"enum": ["", None]}]})]


class RegistrationBody(msgspec.Struct):
    """A node. Unknown members are ignored; the last of repeated members counts."""

    addr: _Text
    raft_addr: _TextOrNull = None
    node_id: _TextOrNull = None


class RemovalBody(msgspec.Struct):
    """The address of a node."""

    addr: _Text


class LeaderBody(msgspec.Struct):
    """The leader, as rqlite 7 to 10 write it: `addr` is the Raft address, `api_addr` the URL. Null
    and the empty string count as absent. Other members are stored; nesting of more than 64 levels
    is refused.
    """

    addr: _Text
    api_addr: _URLOrEmpty = None
    id: _TextOrEmpty = None


class BackupDocument(msgspec.Struct):
    """All records as they are stored, one a line; `crc` is the CRC-32 of all preceding lines in
    hex. `made_at` is in UTC.
    """

    format: Literal["rqdisco backup"]
    version: Literal[5]
    made_at: str
    incarnation: str
    directory: str
    boot: int
    boot_id: str
    last_version: int
    # Any: the format of the disk, which other programs only copy.
    records: list[dict[str, Any]]
    count: int
    crc: str


class ExportDocument(msgspec.Struct):
    """All IDs, one a line; `crc` is the CRC-32 of all preceding lines in hex."""

    format: Literal["rqdisco export"]
    version: Literal[2]
    count: int
    records: list[TransferredRecord]
    crc: str

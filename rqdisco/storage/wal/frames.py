r"""The framing of journal segments.

A segment is a sequence of frames, one for each committed batch:

    #LENGTH PREVIOUS CRC\n      8 hex digits each: bytes of payload, CRC of the frame before, CRC of this one
    {"id":...}\n                payload: one record a line

The CRC (CRC-32, as in RFC 1952 section 8) runs over the payload and starts from the CRC of the
frame before, across segments too, so that a lost, moved or altered frame is detected. The first
frame of a segment holds its header. A frame is only begun when the one before is on the disk: a
frame with data behind it was acknowledged.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import msgspec

FORMAT = "rqdisco journal"
# 2: records have a leader and may be confirmed. 3: records may have previous owners; metadata about
# peers. 4: records may have an attempted grant; unused records expire. 5: records may have an
# unreported claim; records and grants have hosts.
VERSION = 5
_HEAD = re.compile(rb"#([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})\n")
_HEAD_SIZE = 28


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first frame of a segment: its place in the journal, and the boot of its moments."""

    format: str
    version: int
    segment: int
    boot: int
    boot_id: str


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame; `start` and `end` are its offsets in the segment."""

    payload: bytes
    crc: int
    start: int
    end: int


class Broken(Exception):
    """There is no whole frame at `offset`. If `torn`, nothing behind it was ever acknowledged, so the
    segment may be cut there.
    """

    def __init__(self, offset: int, torn: bool, why: str) -> None:
        super().__init__(why)
        self.offset = offset
        self.torn = torn


def encode_frame(lines: Iterable[bytes], previous: int) -> tuple[bytes, int]:
    """Return the frame that holds `lines`, and its CRC."""
    payload = b"\n".join(lines) + b"\n"
    crc = zlib.crc32(payload, previous)
    return b"#%08x %08x %08x\n%b" % (len(payload), previous, crc, payload), crc


def read_frames(data: bytes, previous: int | None) -> Iterable[Frame]:
    """Iterate over the frames of a segment. `previous` is the CRC that the first one chains to, None
    if it is not known.

    Raises Broken in place of the first frame that is not whole.
    """
    offset = 0
    while offset < len(data):
        frame = _frame_at(data, offset)
        if frame is None:
            raise Broken(offset, not _any_frame_behind(data, offset), "not a whole frame")
        chained_to, whole = frame
        if previous is not None and chained_to != previous:
            raise Broken(offset, False, "does not continue the frame before")
        yield whole
        previous, offset = whole.crc, whole.end


def _frame_at(data: bytes, offset: int) -> tuple[int, Frame] | None:
    head = _HEAD.match(data, offset)
    if head is None:
        return None
    length, previous, crc = (int(field, 16) for field in head.groups())
    end = head.end() + length
    payload = data[head.end() : end]
    if len(payload) < length or zlib.crc32(payload, previous) != crc:
        return None
    return previous, Frame(payload, crc, offset, end)


def _any_frame_behind(data: bytes, offset: int) -> bool:
    """Report whether a whole frame follows, which proves that the data before it was on the disk
    once.
    """
    at = data.find(b"#", offset + 1)
    while at != -1:
        if _frame_at(data, at) is not None:
            return True
        at = data.find(b"#", at + 1)
    return False

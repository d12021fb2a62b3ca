"""Reading queries and writing answers, byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rqdisco.dns import wire
from rqdisco.dns.wire import Question, Reply
from tests.support.dns import ZONE, answers, question

NAME = b"\2id\5disco\7example\3com\0"
IN_A = b"\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def packet(
    rest: bytes = NAME + IN_A, *, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    """Return a message with an ID of 7."""
    return struct.pack("!6H", 7, flags, *counts) + rest


def problem(message: bytes) -> int:
    """Return the RCODE of the answer to a message that is answered."""
    asked = wire.parse_query(message)
    assert asked is not None
    return asked.problem


def encoded(reply: Reply, most: int, **options: Any) -> dns.message.Message:
    """Return the encoded answer to a query for an A record of id.disco.example.com."""
    query = question(f"id.{ZONE}", **options)
    asked = wire.parse_query(query)
    assert asked is not None
    answer = wire.encode_reply(asked, reply, most)
    assert len(answer) <= most
    return dns.message.from_wire(answer)


def addresses(count: int) -> list[wire.ResourceRecord]:
    return [wire.address_record(b"id.disco.example.com", f"10.0.{n >> 8}.{n & 255}", 1) for n in range(count)]


def test_a_query_is_read_back_unchanged() -> None:
    asked = wire.parse_query(packet(b"\2Id\5disco\7example\3COM\0\0\x21\0\3"))
    assert asked == Question(
        id=7, flags=0x0100, echo=b"\2Id\5disco\7example\3COM\0\0\x21\0\3", name=b"Id.disco.example.COM", type=33, cls=3
    )


@pytest.mark.parametrize("length", range(12))
def test_a_packet_shorter_than_a_header_is_not_answered(length: int) -> None:
    assert wire.parse_query(packet()[:length]) is None


@pytest.mark.parametrize("flags", [0x8000, 0x8180, 0xFFFF])
def test_a_response_is_not_answered(flags: int) -> None:
    """Otherwise two servers could be made to answer each other for ever."""
    assert wire.parse_query(packet(flags=flags)) is None


@pytest.mark.parametrize("opcode", range(1, 16))
@pytest.mark.parametrize("message", [packet(), packet(b"", counts=(0, 0, 0, 0)), packet(b"\xff" * 9)])
def test_other_operations_are_not_implemented_whatever_they_carry(opcode: int, message: bytes) -> None:
    assert problem(message[:2] + bytes([opcode << 3]) + message[3:]) == wire.NOTIMP


@pytest.mark.parametrize("count", [0, 2, 65535])
def test_a_query_has_one_question(count: int) -> None:
    assert problem(packet((NAME + IN_A) * min(count, 2), counts=(count, 0, 0, 0))) == wire.FORMERR


@pytest.mark.parametrize("counts", [(1, 5, 0, 0), (1, 0, 0, 5), (1, 2, 2, 1), (1, 65535, 65535, 65535)])
def test_a_query_with_more_records_than_necessary_is_refused(counts: tuple[int, int, int, int]) -> None:
    assert problem(packet(NAME + IN_A + OPT, counts=counts)) == wire.FORMERR


@pytest.mark.parametrize("length", range(12, len(packet())))
def test_a_truncated_question_is_a_format_error(length: int) -> None:
    asked = wire.parse_query(packet()[:length])
    assert asked == Question(id=7, flags=0x0100, problem=wire.FORMERR)


@pytest.mark.parametrize("length", range(len(packet()), len(packet()) + len(OPT) + 4))
def test_a_truncated_option_record_is_a_format_error(length: int) -> None:
    whole = packet(NAME + IN_A + OPT[:-1] + b"\4\0\x0a\0\0", counts=(1, 0, 0, 1))
    assert problem(whole) == wire.NOERROR
    assert problem(whole[:length]) == wire.FORMERR


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",
        b"\2id\xc0\x0c",
        b"\2id\xc0\x00",
        b"\2id\xff\xff",
        b"\x40" + b"a" * 64 + b"\0",
        b"\x80" + b"a" * 128 + b"\0",
        (b"\x3f" + b"a" * 63) * 4 + b"\0",
        b"\1a" * 127 + b"\1a\0",
        b"\1a" * 30_000 + b"\0",
    ],
    ids=repr,
)
def test_a_name_with_pointers_or_over_the_length_limit_is_a_format_error(name: bytes) -> None:
    assert problem(packet(name + IN_A)) == wire.FORMERR


@pytest.mark.parametrize("name", [b"\0", b"\x3f" + b"a" * 63 + b"\0", b"\1a" * 127 + b"\0", b"\3\0\xff \0"], ids=repr)
def test_a_name_may_have_the_full_length_and_hold_any_byte(name: bytes) -> None:
    asked = wire.parse_query(packet(name + IN_A))
    assert asked is not None
    assert (asked.problem, asked.echo) == (wire.NOERROR, name + IN_A)


def test_a_dot_within_a_label_does_not_split_it() -> None:
    asked = wire.parse_query(packet(b"\3a.b\5disco\7example\3com\0" + IN_A))
    assert asked is not None
    assert asked.name == b"a\xffb.disco.example.com"
    assert asked.echo.startswith(b"\3a.b")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (OPT, wire.NOERROR),
        (OPT[:6] + b"\1\0\0\0\0", wire.BADVERS),
        (OPT[:6] + b"\xff\0\0\0\0", wire.BADVERS),
        (b"\1a" + OPT, wire.FORMERR),
        (b"\xc0\x20" + OPT[1:], wire.FORMERR),
        (OPT[:-2] + b"\0\1", wire.FORMERR),
        (b"\x40" + b"a" * 64 + OPT, wire.FORMERR),
        (b"\2id\xc0\x0c" + b"\0\xfa\0\xff\0\0\0\0\0\0", wire.NOERROR),
        (b"\xc0\x21" + b"\0\xfa\0\xff\0\0\0\0\0\0", wire.NOERROR),
        (b"\xff\xff" + b"\0\xfa\0\xff\0\0\0\0\0\0", wire.NOERROR),
    ],
    ids=repr,
)
def test_only_options_of_version_0_at_the_root_are_accepted_and_no_pointer_is_followed(
    record: bytes, expected: int
) -> None:
    assert problem(packet(NAME + IN_A + record, counts=(1, 0, 0, 1))) == expected


def test_a_second_option_record_is_a_format_error() -> None:
    assert problem(packet(NAME + IN_A + OPT * 2, counts=(1, 0, 0, 2))) == wire.FORMERR


def test_unrelated_records_may_stand_beside_the_options() -> None:
    """A transfer's SOA, for instance, or a signature."""
    other = b"\xc0\x0c\0\6\0\1\0\0\0\0\0\3abc"
    asked = wire.parse_query(packet(NAME + IN_A + other + OPT + other, counts=(1, 0, 1, 2)))
    assert asked is not None
    assert (asked.problem, asked.size) == (wire.NOERROR, 1232)


@pytest.mark.parametrize(
    ("size", "room"),
    [(None, 512), (0, 512), (100, 512), (512, 512), (513, 513), (1232, 1232), (4096, 1232), (65535, 1232)],
)
def test_an_answer_over_udp_fits_the_clients_size_between_512_and_1232(size: int | None, room: int) -> None:
    asked = wire.parse_query(question(ZONE, size=size))
    assert asked is not None
    assert asked.udp_size == room


@pytest.mark.parametrize("size", [None, 1232])
@pytest.mark.parametrize("count", [0, 1, 27, 28, 40])
def test_an_answer_is_complete_or_marked_as_truncated(size: int | None, count: int) -> None:
    """Never shortened: a client that counts the nodes would count wrong."""
    exact = 12 + len(NAME + IN_A) + 16 * count + (0 if size is None else 11)
    whole = encoded(Reply(answers=addresses(count)), max(512, exact), size=size)
    assert len(answers(whole)) == count
    if exact > 512:
        cut = encoded(Reply(answers=addresses(count)), exact - 1, size=size)
        assert cut.flags & dns.flags.TC
        assert not cut.answer
        assert cut.edns == whole.edns


def test_additional_records_are_left_out_before_an_answer_is_cut() -> None:
    reply = Reply(
        answers=addresses(20), additional=[wire.address_record(b"n-0a000001.id.disco.example.com", "10.0.0.1", 1)] * 9
    )
    assert len(encoded(reply, 1232).additional) == 1
    without = encoded(reply, 512)
    assert (len(answers(without)), without.additional, without.flags & dns.flags.TC) == (20, [], 0)
    assert without.edns == 0


def test_an_answer_too_long_for_tcp_is_truncated_to_fit() -> None:
    cut = encoded(Reply(answers=addresses(5000)), wire.TCP_SIZE)
    assert cut.flags & dns.flags.TC
    assert len(answers(cut)) == (65535 - 12 - len(NAME + IN_A) - 11) // 16
    assert cut.edns == 0


def test_names_far_into_a_long_answer_are_not_compressed() -> None:
    """A pointer has 14 bits."""
    twice = [
        wire.address_record(b"n.far.id.disco.example.com", "10.0.0.1", 1),
        wire.address_record(b"far.id.disco.example.com", "10.0.0.2", 1),
    ]
    got = encoded(Reply(answers=addresses(2000), additional=twice), wire.TCP_SIZE)
    assert [rrset.name.to_text() for rrset in got.additional] == [
        "n.far.id.disco.example.com.", "far.id.disco.example.com."
    ]  # fmt: skip


@given(st.binary(min_size=1, max_size=63), st.integers(0, 65535), st.integers(0, 2**63))
@example(b".", 1, 0)
@example(b"...", 1, 2**32)
def test_every_kind_of_record_is_read_back_unchanged(label: bytes, port: int, serial: int) -> None:
    name = label.replace(b".", b"\xff") + b".disco.example.com"
    echo = bytes([len(label)]) + label + b"\5disco\7example\3com\0" + IN_A
    asked = wire.parse_query(packet(echo))
    assert asked is not None
    records = [
        wire.address_record(name, "10.0.0.1", 1),
        wire.address_record(b"other.org", "fd00::1", 1),
        wire.srv_record(name, port, b"x." + name, 0),
        wire.ns_record(b"disco.example.com", b"ns.disco.example.com", 1),
        wire.soa_record(b"disco.example.com", b"ns.org", serial, 1),
    ]
    got = dns.message.from_wire(wire.encode_reply(asked, Reply(answers=records[:3], authority=records[3:]), 1232))
    found = {rrset.rdtype: rrset[0] for rrset in got.answer + got.authority}
    assert found[dns.rdatatype.A].address == "10.0.0.1"
    assert found[dns.rdatatype.AAAA].address == "fd00::1"
    assert (found[dns.rdatatype.SRV].port, found[dns.rdatatype.SRV].priority, found[dns.rdatatype.SRV].weight) == (
        port,
        1,
        1,
    )
    assert len(found[dns.rdatatype.SRV].target.labels) == 6
    assert found[dns.rdatatype.NS].target.to_text() == "ns.disco.example.com."
    assert found[dns.rdatatype.SOA].serial == serial & 0xFFFFFFFF
    assert found[dns.rdatatype.SOA].rname.to_text() == "hostmaster.disco.example.com."


@given(
    st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: packet(NAME + IN_A + rest, counts=(1, 0, 0, 1)))
)
def test_any_packet_is_read_or_refused_with_a_valid_refusal(data: bytes) -> None:
    asked = wire.parse_query(data)
    if asked is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    refusal = wire.encode_reply(asked, Reply(rcode=asked.problem, is_authoritative=False), asked.udp_size)
    assert len(refusal) <= max(12, len(data))
    assert struct.unpack_from("!H", refusal) == struct.unpack_from("!H", data)
    dns.message.from_wire(refusal)

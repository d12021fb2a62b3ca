"""The table of nasty requests, in memory: whole, byte by byte, cut in two everywhere, and in random
company.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.connections import CREATE_REQUEST, Connection, Server
from tests.support.daemon import create_id
from tests.support.nasty_requests import NASTY_REQUESTS
from tests.support.nasty_requests.rows import GOOD, ID, NastyRequest, Outcome
from tests.support.raw_responses import RawResponse, check_response, read_responses

# Longer rows are cut everywhere near their ends, and now and then in their filling.
_FILLING = 250
_BY_NAME = {row.name: row for row in NASTY_REQUESTS}


class NastyClient:
    """A server with one ID, and connections that get rows in pieces."""

    def __init__(self) -> None:
        self.server = Server()
        self._id = create_id(self.server.daemon).encode()

    def connect(self) -> Connection:
        # This machine does not wait for refusals.
        return self.server.connect("127.0.0.1", "127.0.0.1")

    def send(self, connection: Connection, pieces: Iterable[bytes]) -> list[RawResponse]:
        """Send pieces until the connection is closed; return what is answered in the end."""
        received = b""
        for piece in pieces:
            if connection.closed:
                break
            received += connection.send(piece)
        return read_responses(received + self._rest(connection))

    def data(self, row: NastyRequest) -> bytes:
        return row.data.replace(ID, self._id)

    def stop(self) -> None:
        self.server.daemon.deadlines.stop()

    def _rest(self, connection: Connection) -> bytes:
        """Answers in later turns of the reactor."""
        clock = self.server.clock
        while any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
            clock.advance(0)
        return connection.take()


def check(client: NastyClient, row: NastyRequest, pieces: list[bytes]) -> Outcome:
    """Send a row in pieces, then a good request; return the outcome, which is right."""
    connection = client.connect()
    responses = client.send(connection, pieces)
    final = [response for response in responses if response.status != 100]
    for response in final:
        check_response(response)
    assert len(responses) - len(final) in row.interim
    closed = connection.closed
    assert [response.says_close for response in final[:-1]] == [False] * len(final[:-1])
    if final:
        assert final[-1].says_close == closed, "RFC 9112 section 9.6"
    statuses = tuple(response.status for response in final)
    outcome = Outcome(statuses, "closed" if closed else "waits" if _may_wait(row, statuses) else "kept")
    assert outcome in row.outcomes
    if closed:
        assert connection.send(GOOD) == b""
    elif outcome.end == "kept":
        assert [response.status for response in client.send(connection, [GOOD])] == [200]
    connection.hang_up()
    return outcome


def _may_wait(row: NastyRequest, statuses: tuple[int, ...]) -> bool:
    return any(outcome == Outcome(statuses, "waits") for outcome in row.outcomes)


def cuts(data: bytes) -> Iterable[int]:
    """The places where a row is cut in two."""
    if len(data) <= 2 * _FILLING:
        return range(1, len(data))
    filling = range(_FILLING, len(data) - _FILLING, len(data) // 10)
    return [*range(1, _FILLING), *filling, *range(len(data) - _FILLING, len(data))]


@pytest.fixture(scope="module")
def client() -> Iterator[NastyClient]:
    """One server for all rows: none may leave a trace in it."""
    client = NastyClient()
    yield client
    client.stop()


@pytest.mark.parametrize("row", NASTY_REQUESTS, ids=lambda row: row.name)
def test_a_nasty_request_ends_as_the_rfcs_say_however_its_bytes_arrive(row: NastyRequest, client: NastyClient) -> None:
    data = client.data(row)
    outcome = check(client, row, [data])
    bytewise = check(client, row, [data[place : place + 1] for place in range(len(data))])
    assert bytewise == outcome or row.varies
    for place in cuts(data):
        assert check(client, row, [data[:place], data[place:]]) == outcome or row.varies, f"cut at {place}"


@given(data=st.data())
def test_nasty_requests_in_any_company_are_answered_alike_however_cut_and_no_more_than_once(
    data: st.DataObject,
) -> None:
    client = NastyClient()
    rows = [_BY_NAME[name] for name in data.draw(st.lists(st.sampled_from([*_BY_NAME]), min_size=1, max_size=4))]
    sent = GOOD + b"".join(map(client.data, rows))
    places = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=5)))
    pieces = [sent[start:end] for start, end in zip([0, *places], [*places, len(sent)], strict=True)]
    connection = client.connect()
    final = [response for response in client.send(connection, pieces) if response.status != 100]
    whole = [response for response in client.send(client.connect(), [sent]) if response.status != 100]
    assert final[0].status == 200
    assert any(row.varies for row in rows) or [each.status for each in final] == [each.status for each in whole]
    assert not any(response.status >= 500 and response.status not in {501, 505} for response in final)
    assert len(final) <= 1 + sum(max(row.most_responses, 1) for row in rows)
    if rows[0].must_close:
        assert connection.closed
        assert len(final) <= 1 + max(rows[0].most_responses, 1)
    assert client.send(client.connect(), [CREATE_REQUEST])[0].status == 200, "the next client is served"
    connection.hang_up()
    client.stop()


def test_the_table_has_no_name_twice_and_names_a_section_for_each_row() -> None:
    assert len(_BY_NAME) == len(NASTY_REQUESTS)
    assert len({row.data for row in NASTY_REQUESTS}) == len(NASTY_REQUESTS)
    for row in NASTY_REQUESTS:
        number, _, section = row.section.partition(" ")
        assert number in {"9110", "9112", "9113", "8446", "6585"}
        assert section

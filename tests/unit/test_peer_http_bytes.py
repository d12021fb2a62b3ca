"""The bytes that peers exchange over HTTP, which are those of the first release."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from twisted.web.http_headers import Headers

from rqdisco.request_body import RequestBody
from tests.support.golden_peer_http import DIGEST, STEPS, HTTPExchange, Listener, TappedAgent, parse, talk
from tests.support.golden_peers import GOLDEN

HTTP = msgspec.json.decode((GOLDEN / "http.json").read_bytes(), type=list[HTTPExchange])


def test_links_and_listeners_exchange_the_bytes_that_the_first_release_did(logged_errors: list[Any]) -> None:
    assert [(parse(each.request), parse(each.response)) for each in talk()] == [
        (parse(each.request), parse(each.response)) for each in HTTP
    ]
    assert logged_errors.pop()["log_format"] == "a peer has a wrong key"


def test_a_listener_answers_the_recorded_bytes_as_the_first_release_did(logged_errors: list[Any]) -> None:
    listener = Listener()
    agent = TappedAgent(listener.resource)
    answers = [answer for _, answer in STEPS] + [DIGEST] * (len(HTTP) - len(STEPS))
    for exchange, answer in zip(HTTP, answers, strict=True):
        listener.handler.answer = answer
        sent = parse(exchange.request)
        method, path, _ = sent["first"].split(" ")
        headers = Headers({name: [value] for name, value in sent.items() if name.startswith("rqdisco-")})
        agent.request(method.encode(), b"http://b:4003" + path.encode(), headers, RequestBody(sent["body"].encode()))
        agent.flush()
        assert parse(agent.exchanges[-1].response) == parse(exchange.response)
    statuses = [re.split(" ", parse(each.response)["first"])[1] for each in HTTP]
    assert set(statuses) == {"200", "400", "401", "403", "404", "409", "421"}
    assert logged_errors.pop()["log_format"] == "a peer has a wrong key"

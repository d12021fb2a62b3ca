"""The documentation of the client library: every field of every public class."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from rqdisco import client
from tests.support.client_reference import PAGE, fields, public_classes, with_reference

STRUCTS = list(public_classes())
OTHERS = [each for name in client.__all__ if inspect.isclass(each := getattr(client, name)) and each not in STRUCTS]


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind: type[Any]) -> None:
    assert list(fields(kind)) == list(kind.__struct_fields__)
    assert [name for name, (_, text) in fields(kind).items() if not text.endswith(".")] == []


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_every_attribute_and_method_of_the_other_classes_is_documented(kind: type[Any]) -> None:
    assert kind.__doc__
    for name in re.findall(r"self\.([a-z]\w*) = ", inspect.getsource(kind)):
        assert f"`{name}`" in kind.__doc__
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        assert name.startswith("_") or method.__doc__, name


def test_the_page_has_every_method_of_the_client() -> None:
    page = PAGE.read_text()
    methods = [name for name, _ in inspect.getmembers(client.DiscoveryClient, inspect.isfunction) if name[0] != "_"]
    assert [name for name in methods if f"`{name}(" not in page] == []


def test_the_page_has_the_present_fields() -> None:
    assert with_reference(PAGE.read_text()) == PAGE.read_text(), "run python -m tests.support.client_reference"

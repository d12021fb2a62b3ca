"""The DNS names of IDs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.dns_labels import from_escaped_labels, to_dns_labels
from rqdisco.core.ids import is_id

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"

ids = st.text("ABCxyz019._-", min_size=1, max_size=64).filter(is_id)


@given(ids)
def test_every_id_has_labels_that_every_resolver_accepts(discovery_id: str) -> None:
    labels = to_dns_labels(discovery_id).split(".")
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", label) for label in labels)


@given(ids)
def test_escaped_labels_decode_to_the_id_in_any_case_and_plain_ones_are_the_id(discovery_id: str) -> None:
    labels = to_dns_labels(discovery_id)
    if labels == discovery_id:
        assert from_escaped_labels(labels) is None
    else:
        assert from_escaped_labels(labels) == from_escaped_labels(labels.upper()) == discovery_id


@pytest.mark.parametrize("discovery_id", [ID, "a", "0", "a.b", "a_b-c", "rqlite", "a" * 63, f"{'a' * 31}.{'b' * 32}"])
def test_ids_that_are_dns_names_are_looked_up_unchanged(discovery_id: str) -> None:
    assert to_dns_labels(discovery_id) == discovery_id


@pytest.mark.parametrize(
    ("discovery_id", "labels"),
    [
        ("A", "x--ie"),
        ("x--ie", "x--paws22lf"),
        ("-a", "x--fvqq"),
        ("a.", "x--mexa"),
        ("_tcp", "x--l52gg4a"),
        ("a" * 64, f"x--{'mfqwcylb' * 7}mfqw.{'cylb' + 'mfqwcylb' * 4 + 'mfqwcyi'}"),
    ],
)
def test_other_ids_are_escaped_into_labels_of_63_at_most(discovery_id: str, labels: str) -> None:
    assert to_dns_labels(discovery_id) == labels


@pytest.mark.parametrize(
    "labels", ["", "a", "x--", "x--a", "x--1", "x--if", "x--i.e", "x--ie.", "x--77", "x--ie======"]
)
def test_a_name_that_only_looks_like_an_escaped_id_is_not_decoded(labels: str) -> None:
    assert from_escaped_labels(labels) is None

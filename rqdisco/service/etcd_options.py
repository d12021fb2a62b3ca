"""The options of the etcd backend; validated together, and against those that it excludes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.python import usage

from rqdisco.security.certificates import Files
from rqdisco.service.config import EtcdConfig
from rqdisco.service.option_values import number, service_url

DEFAULT_PREFIX = "/rqdisco/"
_NAMES = (
    "etcd-prefix",
    "etcd-user",
    "etcd-password-file",
    "etcd-ca",
    "etcd-cert",
    "etcd-key",
    "wait-for-etcd",
    "dns-serve-stale",
)
# Options that cannot be combined with --etcd, by the reason why.
_EXCLUDED = {
    "whose daemons need no peers": (
        "peer",
        "peer-listen",
        "advertise",
        "peer-keys",
        "peer-ca",
        "peer-cert",
        "peer-key",
        "name",
    ),
    "because etcd stores the records": ("disk-reserve", "snapshot-every"),
}
_TLS = ("etcd-ca", "etcd-cert", "etcd-key")
_PREFIX = re.compile(r"[!-~]{0,199}/\Z")


def etcd_config(values: Mapping[str, Any]) -> EtcdConfig | None:
    """Return the configuration of the etcd backend from the values of the options by name, None
    without `--etcd`. Raises UsageError.
    """
    if not values["etcd"]:
        for name in _NAMES:
            if values[name]:
                raise usage.UsageError(f"{name}: requires --etcd")
        return None
    for why, names in _EXCLUDED.items():
        for name in names:
            if values.get(name):
                raise usage.UsageError(f"{name}: cannot be combined with --etcd, {why}")
    endpoints = tuple(dict.fromkeys(service_url("etcd", url) for url in values["etcd"]))
    if values["grant-ack"] != "if-up":
        raise usage.UsageError("grant-ack: cannot be combined with --etcd, whose daemons need no peers")
    if values["dns-serve-stale"] and not values["dns"]:
        raise usage.UsageError("dns-serve-stale: requires --dns, the address to answer on")
    _check_tls(values, endpoints)
    _check_user(values)
    prefix = values["etcd-prefix"] or DEFAULT_PREFIX
    if not _PREFIX.match(prefix):
        raise usage.UsageError(
            f"etcd-prefix: {prefix!r} must end with a slash and have at most 200 printable characters without spaces"
        )
    return EtcdConfig(
        endpoints=endpoints,
        prefix=prefix,
        user=values["etcd-user"],
        password_file=_path(values["etcd-password-file"]),
        tls=Files(
            key=_path(values["etcd-key"] or values["etcd-cert"]),
            certificate=_path(values["etcd-cert"]),
            authorities=_path(values["etcd-ca"]),
        ),
        wait=number("wait-for-etcd", values["wait-for-etcd"] or "0", 0.0),
        serve_stale=number("dns-serve-stale", values["dns-serve-stale"] or "0", 0.0),
    )


def _check_tls(values: Mapping[str, Any], endpoints: Sequence[str]) -> None:
    if values["etcd-key"] and not values["etcd-cert"]:
        raise usage.UsageError("etcd-key: requires --etcd-cert")
    plain = [each for each in endpoints if each.startswith("http:")]
    for name in _TLS:
        if values[name] and plain:
            raise usage.UsageError(f"{name}: requires https, unlike {plain[0]}")


def _check_user(values: Mapping[str, Any]) -> None:
    user, password = values["etcd-user"], values["etcd-password-file"]
    if user and not password:
        raise usage.UsageError("etcd-user: requires --etcd-password-file")
    if password and not user:
        raise usage.UsageError("etcd-password-file: requires --etcd-user")


def _path(text: str | None) -> Path | None:
    return Path(text).absolute() if text else None

"""The lines that `rqdisco serve` prints once it listens: where to find the daemon and its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rqdisco.service.config import Config

_OTHERS = {"operator": "Operator socket", "metrics": "Metrics", "dns": "DNS", "peers": "Peers"}
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104, compared with, not bound


def banner(config: Config, addresses: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines. `addresses` are those of the listeners, by their names; the public ones in
    the order of `config.listen`.
    """
    lines = [
        f"Listening on {_describe(endpoint, address)}"
        for endpoint, address in zip(config.listen, addresses["endpoints"], strict=True)
    ]
    lines += [f"{what}: {', '.join(addresses[name])}" for name, what in _OTHERS.items() if name in addresses]
    if config.etcd is not None:
        lines.append(f"Records: etcd, {', '.join(config.etcd.endpoints)}")
    if config.data_dir is not None:
        lines.append(f"Data directory: {config.data_dir}")
    return lines


def _describe(endpoint: str, address: str) -> str:
    """Describe an address that the endpoint listens on, as a URL where a browser can open it."""
    if address.startswith("unix:") or "haproxy:" in endpoint:
        return f"{address} (for a proxy)" if "haproxy:" in endpoint else address
    host, _, port = address.rpartition(":")
    scheme = "https" if endpoint.startswith(("ssl:", "tls:")) else "http"
    url = f"{scheme}://{_WILDCARDS.get(host, host)}:{port} (open this in a browser)"
    return f"{url} and on every other address of this machine" if host in _WILDCARDS else url

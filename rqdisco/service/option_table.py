"""The daemon's options: one table for twistd, `rqdisco serve`, the configuration file, the
environment and the documentation.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

DEFAULT_LISTEN = "tcp:4000:interface=127.0.0.1:backlog=1000"
# A flag takes no value on the command line, a list may be given several times.
Kind = Literal["text", "number", "flag", "list"]


class Option(NamedTuple):
    """An option with its help text. `described_default` is shown where `default` is None: there is
    no default then, or one that depends on something else.
    """

    name: str
    text: str
    kind: Kind = "text"
    default: str | None = None
    described_default: str = "none"

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return "RQDISCO_" + self.name.upper().replace("-", "_")

    @property
    def shown_default(self) -> str:
        """Return the default as the help shows it."""
        if self.kind == "flag":
            return "off"
        return self.described_default if self.default is None else self.default

    @property
    def help(self) -> str:
        """Return the text with the default."""
        if self.kind == "flag":
            return self.text
        mark = " Repeatable." if self.kind == "list" else ""
        return f"{self.text}{mark} [default: {self.shown_default}]"


class Topic(NamedTuple):
    """Options that belong together."""

    title: str
    options: tuple[Option, ...]


TOPICS = (
    Topic(
        "Listening and access",
        (
            Option("listen", "Endpoint to listen on, as a Twisted endpoint string.", "list", DEFAULT_LISTEN),
            Option(
                "host",
                "Host name or IP to accept in the Host header of loopback requests, besides localhost and loopback"
                " IPs.",
                "list",
            ),
            Option(
                "trusted-proxy",
                "Network of proxies, such as 10.0.0.0/28, whose Forwarded or X-Forwarded-For header names the client.",
                "list",
            ),
            Option(
                "tokens",
                "Token file. If set, clients need a token from it.",
                described_default="none; other machines cannot connect unless --open",
            ),
            Option("open", "Serve every client that can connect, without tokens.", "flag"),
            Option(
                "operator-socket",
                "UNIX socket for operators, without tokens; off disables it.",
                described_default="$RUNTIME_DIRECTORY/operator.sock if that is set, else off",
            ),
            Option("metrics-listen", "Endpoint to serve /metrics on, as a Twisted endpoint string.", "list"),
        ),
    ),
    Topic(
        "State",
        (
            Option(
                "data-dir",
                "Directory for the daemon's state; optional with --etcd.",
                described_default="$STATE_DIRECTORY, else ./rqdisco-data",
            ),
            Option(
                "disk-reserve",
                "Disk space to keep free, such as 64M or 1G.",
                "number",
                described_default="64M or 1% of the disk, whichever is less",
            ),
            Option("snapshot-every", "Seconds between snapshots.", "number", described_default="300"),
            Option("audit", "File for the audit log: one line of JSON per change."),
            Option("drain-timeout", "Seconds to keep serving after a stop signal, while /readyz fails.", "number", "0"),
        ),
    ),
    Topic(
        "Configuration and log",
        (
            Option("config", "Configuration file in TOML, with the names of these options."),
            Option(
                "log-format",
                "Format of the log on stdout: text or json.",
                described_default="text on a terminal, else json",
            ),
            Option("log-level", "Lowest level of the events to log: debug, info, warn or error.", default="info"),
        ),
    ),
    Topic(
        "Discovery IDs and nodes",
        (
            Option(
                "retry-window",
                "Seconds within which a node may retry its bootstrap grant; 0 disables retries.",
                "number",
                "30",
            ),
            Option(
                "strict-addresses",
                "Refuse addresses that other machines cannot reach, instead of logging them.",
                "flag",
            ),
            Option("kv-create", "Create IDs for unknown consul-kv keys: yes or no.", default="yes"),
            Option(
                "kv-visible-claims",
                "Show a consul-kv claim before its leader reports itself, as Consul does.",
                "flag",
            ),
            Option(
                "max-ids",
                "Maximum number of discovery IDs; approximate with --etcd.",
                "number",
                described_default="no limit",
            ),
            Option("max-nodes", "Maximum number of nodes per ID.", "number", "1000"),
            Option(
                "expire-unused",
                "Days after which an ID that never had a node is deleted.",
                "number",
                described_default="never",
            ),
        ),
    ),
    Topic(
        "Limits",
        (
            Option("max-body", "Maximum size of a request body in bytes.", "number", "16384"),
            Option("create-rate", "Maximum rate of new IDs per client and second; 0 means no limit.", "number", "10"),
            Option(
                "client-rate",
                "Requests per client and second above which they are delayed; 0 means no limit.",
                "number",
                "500",
            ),
            Option(
                "max-connections",
                "Maximum number of connections.",
                "number",
                described_default="10000, or fewer by ulimit -n",
            ),
            Option("max-client-connections", "Maximum number of connections per client.", "number", "2000"),
            Option("idle-timeout", "Seconds after which an idle connection is closed.", "number", "75"),
        ),
    ),
    Topic(
        "DNS",
        (
            Option("dns", "IP:PORT to answer DNS queries on, over UDP and TCP.", "list"),
            Option("dns-zone", "Zone to answer DNS queries for, such as disco.example.com."),
            Option(
                "dns-aliases",
                "More service names for Raft addresses; NAME:http for HTTP addresses.",
                default="rqlite,raft,rqlite-svc",
            ),
            Option("dns-nameserver", "Name server in the zone's NS record.", described_default="ns in the zone"),
            Option(
                "dns-rate", "Maximum rate of UDP answers per source and second; 0 means no limit.", "number", "1000"
            ),
            Option("dns-open", "Answer DNS queries without tokens, from other machines too.", "flag"),
        ),
    ),
    Topic(
        "Peers",
        (
            Option("name", "Name of this daemon among its peers.", described_default="the host name"),
            Option("peer", "URL of a peer. One is enough to discover the others.", "list"),
            Option("peer-listen", "Endpoint to listen for peers on, as a Twisted endpoint string.", "list"),
            Option("advertise", "URL at which peers reach this daemon: http://HOST:PORT or https://HOST:PORT."),
            Option("peer-keys", "File of keys shared by all peers, one per line; the first one signs."),
            Option("peer-ca", "CA file to verify the peers' certificates.", described_default="the system's CAs"),
            Option("peer-cert", "Certificate file for connections to peers."),
            Option("peer-key", "Key file of --peer-cert.", described_default="the certificate file"),
            Option(
                "grant-ack",
                "When a peer must acknowledge a bootstrap grant: if-up (if any is reachable) or required.",
                default="if-up",
            ),
        ),
    ),
    Topic(
        "etcd",
        (
            Option("etcd", "URL of a member of the etcd cluster that stores the records.", "list"),
            Option("etcd-prefix", "Prefix of the keys in etcd; ends with a slash.", described_default="/rqdisco/"),
            Option("etcd-user", "User name at etcd."),
            Option("etcd-password-file", "File with the password of --etcd-user."),
            Option("etcd-ca", "CA file to verify etcd's certificates.", described_default="the system's CAs"),
            Option("etcd-cert", "Certificate file for connections to etcd."),
            Option("etcd-key", "Key file of --etcd-cert.", described_default="the certificate file"),
            Option(
                "wait-for-etcd",
                "Seconds for which the daemon tries to reach etcd when it starts, before it exits.",
                "number",
                described_default="0",
            ),
            Option(
                "dns-serve-stale",
                "Seconds for which DNS answers may be out of date while etcd does not answer.",
                "number",
                described_default="0",
            ),
        ),
    ),
    Topic(
        "Probes",
        (
            Option(
                "probe",
                "Seconds between probes of a node; requires --probe-allow.",
                "number",
                described_default="no probes",
            ),
            Option("probe-allow", "Network whose addresses may be probed, such as 10.0.0.0/16.", "list"),
            Option("probe-rate", "Maximum number of probes per second.", "number", "100"),
        ),
    ),
)
OPTIONS = {option.name: option for topic in TOPICS for option in topic.options}

"""Certificate authorities that sign whatever a test needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority, signed by `parent` if one is given and self-signed otherwise."""

    def __init__(self, name: str = "authority", parent: Authority | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key, parent or self, [], days=1000, is_authority=True)

    @property
    def pem(self) -> bytes:
        """The certificate of the authority."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, hosts: Sequence[str] = (), days: int = 30) -> tuple[bytes, bytes]:
        """Return a key and its certificate for these host names and IP addresses, valid for `days`
        from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, self, hosts, days=days, is_authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private, certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, directory: Path, name: str, hosts: Sequence[str] = (), days: int = 30) -> tuple[Path, Path]:
        """Write a key and a certificate to files; existing files are replaced."""
        files = directory / f"{name}.key", directory / f"{name}.crt"
        for file, content in zip(files, self.issue(name, hosts, days), strict=True):
            replace(file, content)
        return files

    @staticmethod
    def _sign(
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        by: Authority,
        hosts: Sequence[str],
        *,
        days: int,
        is_authority: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        begin = min(now, now + timedelta(days=days)) - timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False)
        return builder.sign(by.key, hashes.SHA256())


def replace(file: Path, content: bytes) -> None:
    """Replace a file by another one."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

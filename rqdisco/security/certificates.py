"""Keys and certificates, read from files.

What was read is made anew when a file changes, for the next connection; those that are open stay as
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger

from rqdisco.core.errors import TLSUnusable
from rqdisco.security.file_modes import warn_of_others

# The protocols that are spoken inside.
HTTP = [b"http/1.1"]
_LOOK_SECONDS = 1.0

T = TypeVar("T", bound="_Made")


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key and its certificate are. What is behind the certificate in its file goes along,
    as `chain` does.

    `authorities` are who signs the certificates of the others: for a listener, of those who ask,
    who need none without; else of those who are asked, and without it the system's are.
    """

    key: Path | None = None
    certificate: Path | None = None
    chain: Path | None = None
    authorities: Path | None = None

    def all(self) -> list[Path]:
        """Those that there are."""
        files = (self.key, self.certificate, self.chain, self.authorities)
        return [file for file in files if file is not None]


class _Made(msgspec.Struct, frozen=True):
    """What was made of files; `not_after` is when the certificate in them, if any, ends."""

    not_after: datetime | None


class ForListener(_Made, frozen=True):
    """What connections to a listener begin with."""

    context: SSL.Context


class ForClients(_Made, frozen=True):
    """What connections that we make begin with: whom to trust, and what we show if we are asked."""

    trust: Any
    certificate: PrivateCertificate | None
    chain: Sequence[crypto.X509]


class ReloadingFiles(Generic[T]):
    """What `make` makes of files, made anew when they change; `now` gives the seconds of a
    monotonic clock, `on_read` hears that they were read again.

    Raises TLSUnusable, but only while it is made for the first time: later what there was stays,
    and the log says so.
    """

    _log = Logger()

    def __init__(
        self,
        where: str,
        files: Files,
        make: Callable[[Files], T],
        now: Callable[[], float],
        on_read: Callable[[], None],
    ) -> None:
        self.where = where
        self._files = files
        self._make = make
        self._on_read = on_read
        self._now = now
        self._looked = now()
        self._stamps = self._stamp()
        self._made = make(files)

    def get(self) -> T:
        """What there is now. Files are looked at once a second, if anybody asks."""
        now = self._now()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if self._stamp() != self._stamps:
                self.reread()
        return self._made

    def reread(self) -> None:
        """Read the files."""
        if not self._stamps:
            return
        # Looked at before they are read: what changes in between is seen the next time.
        self._stamps = self._stamp()
        try:
            self._made = self._make(self._files)
        except TLSUnusable as error:
            self._log.error("certificates not read again, the old ones stay: {why}", why=str(error), where=self.where)
            return
        self._log.info("certificates read again", where=self.where, not_after=_in_words(self._made.not_after))
        self._on_read()

    def _stamp(self) -> list[tuple[int, ...] | None]:
        return [_stamp(file) for file in self._files.all()]


class Certificates:
    """All keys and certificates of a daemon; `on_read` hears when some of them were read again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.on_read: Callable[[], None] = lambda: None
        self._now = now
        self._kept: list[ReloadingFiles[Any]] = []

    def for_listener(self, where: str, files: Files) -> ReloadingFiles[ForListener]:
        """Those of a listener. Raises TLSUnusable."""
        return self._keep(ReloadingFiles(where, files, _server, self._now, self._was_read))

    def for_clients(self, where: str, files: Files) -> ReloadingFiles[ForClients]:
        """Those for connections that we make. Raises TLSUnusable."""
        return self._keep(ReloadingFiles(where, files, _client, self._now, self._was_read))

    def reread(self) -> None:
        """Read all files again."""
        for kept in self._kept:
            kept.reread()

    def expiries(self) -> list[tuple[str, datetime]]:
        """Where there is a certificate, and when it ends."""
        ends = [(kept.where, kept.get().not_after) for kept in self._kept]
        return [(where, end) for where, end in ends if end is not None]

    def _was_read(self) -> None:
        self.on_read()

    def _keep(self, kept: ReloadingFiles[T]) -> ReloadingFiles[T]:
        self._kept.append(kept)
        return kept


def check_files(files: Files) -> None:
    """See that connections can be made with these. Raises TLSUnusable."""
    _client(files)


def _server(files: Files) -> ForListener:
    assert files.key is not None
    assert files.certificate is not None
    key, (leaf, *chain) = _key(files.key), _certificates(files.certificate)
    _check_pair(files, key, leaf)
    if files.chain is not None:
        chain += _certificates(files.chain)
    made = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key),
        certificate=crypto.X509.from_cryptography(leaf),
        extraCertChain=[crypto.X509.from_cryptography(each) for each in chain],
        trustRoot=None if files.authorities is None else _authorities(files.authorities),
        acceptableProtocols=HTTP,
    )
    with _executable_memory():
        return ForListener(leaf.not_valid_after_utc, made.getContext())


def _client(files: Files) -> ForClients:
    trust = platformTrust() if files.authorities is None else _authorities(files.authorities)
    if files.authorities is not None or files.certificate is not None:
        with _executable_memory():
            CertificateOptions(trustRoot=trust).getContext()
    if files.certificate is None:
        return ForClients(None, trust, None, ())
    assert files.key is not None
    key, (leaf, *chain) = _key(files.key), _certificates(files.certificate)
    _check_pair(files, key, leaf)
    pair = KeyPair(crypto.PKey.from_cryptography_key(key))
    certificate = PrivateCertificate.fromCertificateAndKeyPair(Certificate(crypto.X509.from_cryptography(leaf)), pair)
    return ForClients(leaf.not_valid_after_utc, trust, certificate, [crypto.X509.from_cryptography(it) for it in chain])


@contextmanager
def _executable_memory() -> Iterator[None]:
    """What OpenSSL calls back is machine code that is made when it is needed. Raises TLSUnusable
    where it cannot be.
    """
    try:
        yield
    except MemoryError:
        raise TLSUnusable(
            "TLS needs memory that is written and executed: MemoryDenyWriteExecute=no, under systemd"
        ) from None


def _check_pair(files: Files, key: Any, leaf: x509.Certificate) -> None:
    if key.public_key() != leaf.public_key():
        raise TLSUnusable(f"{files.key}: is not the key of the certificate in {files.certificate}")


def _authorities(path: Path) -> Any:
    return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(it)) for it in _certificates(path)])


def _certificates(path: Path) -> list[x509.Certificate]:
    content = _read(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise TLSUnusable(f"{path}: there is no certificate in PEM format in it") from None


def _key(path: Path) -> Any:
    content = _read(path)
    warn_of_others(path, "a private key")
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        raise TLSUnusable(f"{path}: the key is encrypted, and nobody is there to be asked for its password") from None
    except Exception:
        # What else there can be wrong, cryptography has many words for.
        raise TLSUnusable(f"{path}: there is no private key in PEM format in it") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSUnusable(f"{path}: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What is another one once a file was written or replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _in_words(end: datetime | None) -> str | None:
    return None if end is None else end.isoformat()

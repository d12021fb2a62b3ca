"""Keys and certificates, read from files.

When a file changes, it is read again for new connections; open ones keep what they started with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from twisted.logger import Logger

from rqdisco.core.errors import TLSUnusable
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.security.file_stamp import Stamp, check_regular, file_stamp

# The protocols inside TLS, as ALPN names them.
HTTP = [b"http/1.1"]
_CHECK_SECONDS = 1.0

T = TypeVar("T", bound="_Loaded")


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a key and its certificate. Certificates that follow in the certificate's file
    are sent too, as are those in `chain`.

    `authorities` sign the certificates of the other side. A listener requires client certificates
    only if it has them; a client without them trusts the system's authorities.
    """

    key: Path | None = None
    certificate: Path | None = None
    chain: Path | None = None
    authorities: Path | None = None

    def all(self) -> list[Path]:
        """Return the files that are set."""
        files = (self.key, self.certificate, self.chain, self.authorities)
        return [file for file in files if file is not None]


class _Loaded(msgspec.Struct, frozen=True):
    """The content of files; `not_after` is when the certificate among them, if any, expires."""

    not_after: datetime | None


class ForListener(_Loaded, frozen=True):
    """The TLS context of a listener's connections."""

    context: SSL.Context


class ForClients(_Loaded, frozen=True):
    """The TLS settings of outgoing connections: the authorities to trust, and the certificate to
    send if asked.
    """

    # Twisted declares its type, IOpenSSLTrustRoot, in a private module.
    trust: Any
    # Arguments of Twisted's CertificateOptions; none without a certificate.
    certificate_options: Mapping[str, Any]


class ReloadingFiles(Generic[T]):
    """The result of `load` on files, loaded again when they change.

    `now` returns seconds of a monotonic clock; `on_reload` is called after every reload. Raises
    TLSUnusable, but only when it is constructed: a reload that fails is logged, and the old content
    stays in use.
    """

    _log = Logger()

    def __init__(
        self,
        where: str,
        files: Files,
        load: Callable[[Files], T],
        now: Callable[[], float],
        on_reload: Callable[[], None],
    ) -> None:
        self.where = where
        self._files = files
        self._load = load
        self._on_reload = on_reload
        self._now = now
        self._checked = now()
        self._stamps = self._stamp()
        self._loaded = load(files)

    def get(self) -> T:
        """Return the current content. Checks once a second, when called, whether files changed."""
        now = self._now()
        if now - self._checked >= _CHECK_SECONDS:
            self._checked = now
            if self._stamp() != self._stamps:
                self.reload()
        return self._loaded

    def reload(self) -> None:
        """Load the files again."""
        if not self._stamps:
            return
        # Before they are read: a change in between is seen by the next check.
        self._stamps = self._stamp()
        try:
            for file in self._files.all():
                _check_regular(file)
            self._loaded = self._load(self._files)
        except TLSUnusable as error:
            self._log.error(
                "certificates not reloaded, the old ones stay in use: {why}", why=str(error), where=self.where
            )
            return
        not_after = self._loaded.not_after
        self._log.info(
            "certificates reloaded", where=self.where, not_after=None if not_after is None else not_after.isoformat()
        )
        self._on_reload()

    def _stamp(self) -> list[Stamp | None]:
        return [file_stamp(file) for file in self._files.all()]


class Certificates:
    """All keys and certificates of a daemon."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._files: list[ReloadingFiles[Any]] = []
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, reloaded: Callable[[], None]) -> None:
        """Call `reloaded` whenever some of them were loaded again."""
        self._subscribers.append(reloaded)

    def for_listener(self, where: str, files: Files) -> ReloadingFiles[ForListener]:
        """Load those of a listener; `where` names it. Raises TLSUnusable."""
        return self._add(ReloadingFiles(where, files, _load_for_listener, self._now, self._notify))

    def for_clients(self, where: str, files: Files) -> ReloadingFiles[ForClients]:
        """Load those for connections to others; `where` names these. Raises TLSUnusable."""
        return self._add(ReloadingFiles(where, files, _load_for_clients, self._now, self._notify))

    def reload(self) -> None:
        """Load all files again."""
        for files in self._files:
            files.reload()

    def expiries(self) -> list[tuple[str, datetime]]:
        """Return where there is a certificate, and when it expires."""
        ends = [(files.where, files.get().not_after) for files in self._files]
        return [(where, end) for where, end in ends if end is not None]

    def _notify(self) -> None:
        for reloaded in self._subscribers:
            reloaded()

    def _add(self, files: ReloadingFiles[T]) -> ReloadingFiles[T]:
        self._files.append(files)
        return files


def check_files(files: Files) -> None:
    """Check that connections can be made with these files. Raises TLSUnusable."""
    _load_for_clients(files)


def _load_for_listener(files: Files) -> ForListener:
    assert files.key is not None
    assert files.certificate is not None
    key, (leaf, *chain) = _key(files.key), _certificates(files.certificate)
    _check_pair(files, key, leaf)
    if files.chain is not None:
        chain += _certificates(files.chain)
    options = CertificateOptions(
        **_certificate_options(key, leaf, chain),
        trustRoot=None if files.authorities is None else _authorities(files.authorities),
        acceptableProtocols=HTTP,
    )
    with _executable_memory():
        return ForListener(leaf.not_valid_after_utc, options.getContext())


def _load_for_clients(files: Files) -> ForClients:
    trust = platformTrust() if files.authorities is None else _authorities(files.authorities)
    if files.authorities is not None or files.certificate is not None:
        with _executable_memory():
            CertificateOptions(trustRoot=trust).getContext()
    if files.certificate is None:
        return ForClients(None, trust, {})
    assert files.key is not None
    key, (leaf, *chain) = _key(files.key), _certificates(files.certificate)
    _check_pair(files, key, leaf)
    return ForClients(leaf.not_valid_after_utc, trust, _certificate_options(key, leaf, chain))


def _certificate_options(key: Any, leaf: x509.Certificate, chain: list[x509.Certificate]) -> dict[str, Any]:
    """Return arguments of CertificateOptions. pyOpenSSL gets them unchanged: it takes
    cryptography's objects and deprecates its own.
    """
    return {"privateKey": key, "certificate": leaf, "extraCertChain": chain}


@contextmanager
def _executable_memory() -> Iterator[None]:
    """OpenSSL's callbacks are machine code generated at run time. Raises TLSUnusable where the
    system forbids that.
    """
    try:
        yield
    except MemoryError:
        raise TLSUnusable(
            "TLS needs memory that is writable and executable; under systemd set MemoryDenyWriteExecute=no"
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
        raise TLSUnusable(f"{path}: contains no certificate in PEM format") from None


def _key(path: Path) -> Any:
    # pyOpenSSL refuses some kinds of keys that cryptography loads.
    content = _read(path)
    warn_of_loose_mode(path, "a private key")
    try:
        return load_pem_private_key(content, None)
    except TypeError:
        raise TLSUnusable(f"{path}: the key is encrypted; store it without a password") from None
    except Exception:
        # cryptography raises many kinds of errors for a key that it cannot load.
        raise TLSUnusable(f"{path}: contains no private key in PEM format") from None


def _check_regular(path: Path) -> None:
    try:
        check_regular(path)
    except OSError as error:
        raise TLSUnusable(f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSUnusable(f"{path}: {error.strerror}") from None

"""A public address of the stack: an https server whose certificate can be exchanged at any time."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.engines.files import write_private

__all__ = ["PublicSite"]

_PATIENCE_S = 10.0
_MARGIN = timedelta(minutes=5)


class PublicSite:
    """Listens on a port of 127.0.0.1, as `localhost`, from its making to `close`. Its certificate is good for 90 days at first.

    Args:
        folder: for the authority's certificate and the site's own.
    Attributes:
        authority: what clients have to trust (SSL_CERT_FILE). status: what every request is answered with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(self._certify(self._name, self._key.public_key(), 3650, authority=True))
        self.status = b"200 OK"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"https://localhost:{self.port}"
        self.days(90)
        threading.Thread(target=self._serve, name="public site", daemon=True).start()

    def days(self, days: float, host: str = "localhost") -> None:
        """Show a certificate that is good for so many days, from the next connection on; negative: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain = self._folder / "site.pem"
        write_private(chain, (secret + self._certify(name, key.public_key(), days)).decode())
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain)
        self._context = context

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _certify(self, name: x509.Name, public: ec.EllipticCurvePublicKey, days: float, *, authority: bool = False) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=days) + _MARGIN)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            host = str(name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(_PATIENCE_S)
            try:
                with self._context.wrap_socket(plain, server_side=True) as client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError:
                plain.close()

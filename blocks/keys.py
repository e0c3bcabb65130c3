"""The keys of a stack's backups: who can open them, who signs them, and which secrets the data was encrypted with.

Encryption is age (X25519, https://age-encryption.org/v1) through pyrage, signatures are Ed25519 through cryptography.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import IO

import pyrage
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.errors import IntegrityError, SettingsError


class BackupKeys(Block):
    """Keys that backups are encrypted to, signed with, and compared by.

    Attributes:
        recipients: age public keys (`age1...`); at best two: an offline recovery key and the drill's key.
        identity: age secret key (`AGE-SECRET-KEY-1...`) that drills and restores decrypt with; a worker that only takes
            backups does without.
        signing_key: Ed25519 private key, 32 bytes as hex, that signs manifests; a worker that only restores does without.
        verify_key: Ed25519 public key, hex, that a manifest must be signed with; derived from `signing_key` when empty.
        application_keys: the applications' own secrets by variable name (`LITELLM_SALT_KEY`, `ENCRYPTION_KEY`): a set
            records keyed fingerprints of them, and a restore refuses data that the present ones could not decrypt.

    Example:
        ```python
        keys = BackupKeys.load("mystack")
        keys.check()
        ```
    """

    _block_type_name = "Backup Keys"
    _block_type_slug = "backup-keys"
    _description = "Keys that a stack's backups are encrypted to, signed with and compared by."

    recipients: list[str] = Field(description="age public keys, age1...")
    identity: SecretStr | None = Field(default=None, description="age secret key for drills and restores")
    signing_key: SecretStr | None = Field(default=None, description="Ed25519 private key, hex")
    verify_key: str = Field(default="", description="Ed25519 public key, hex")
    application_keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="Secrets the data is encrypted with, by variable name"
    )

    def check(self) -> None:
        """See that every key parses and that they fit together.

        Raises:
            SettingsError: which key is wrong, and what it should look like.
        """
        self._recipients()
        if self.identity is not None and self.own_recipient() not in self.recipients:
            raise SettingsError(
                "backup keys: the age identity belongs to none of the recipients, so drills could not open new backups; "
                f"add {self.own_recipient()} to BACKUP_AGE_RECIPIENTS"
            )
        public = self._public_key().public_bytes_raw()
        if self.signing_key is not None and self._private_key().public_key().public_bytes_raw() != public:
            raise SettingsError(
                "backup keys: BACKUP_VERIFY_KEY does not belong to BACKUP_SIGNING_KEY, so no set written here could be "
                "restored here; unset BACKUP_VERIFY_KEY, or set it to the public half"
            )

    def encrypt(self, source: IO[bytes], target: IO[bytes]) -> None:
        """Encrypt everything `source` yields to all recipients, into `target`, in constant memory.

        Raises: what `source` or `target` raised.
        """
        ends = _Ends(source, target)
        try:
            pyrage.encrypt_io(ends, ends, self._recipients())
        except (pyrage.EncryptError, OSError):
            if ends.error is not None:
                raise ends.error from None
            raise

    def decrypt(self, source: IO[bytes], target: IO[bytes]) -> None:
        """Decrypt everything `source` yields into `target`; truncation and tampering are errors.

        Raises:
            SettingsError: there is no identity here.
            IntegrityError: it was encrypted to somebody else, or the bytes are not what was encrypted.
            Also what `source` or `target` raised.
        """
        identity = self._identity()
        ends = _Ends(source, target)
        try:
            pyrage.decrypt_io(ends, ends, [identity])
        except (pyrage.DecryptError, OSError) as error:  # OSError is what it raises for damage behind the header
            if ends.error is not None:
                raise ends.error from None
            raise IntegrityError(self._why(str(error))) from None

    def encrypt_bytes(self, data: bytes) -> bytes:
        """Encrypt something small."""
        return bytes(pyrage.encrypt(data, self._recipients()))

    def decrypt_bytes(self, data: bytes) -> bytes:
        """Decrypt something small; errors as in `decrypt`."""
        identity = self._identity()
        try:
            return bytes(pyrage.decrypt(data, [identity]))
        except pyrage.DecryptError as error:
            raise IntegrityError(self._why(str(error))) from None

    def own_recipient(self) -> str:
        """Return the public key of the identity."""
        return str(self._identity().to_public())

    def sign(self, data: bytes) -> tuple[str, str]:
        """Sign `data`.

        Returns: public key and signature, hex.
        Raises:
            SettingsError: there is no signing key here.
        """
        key = self._private_key()
        return key.public_key().public_bytes_raw().hex(), key.sign(data).hex()

    def verify(self, data: bytes, signature: str) -> None:
        """Check a signature made by `sign`, against our own verify key, never one that comes with the data.

        Raises:
            IntegrityError: somebody else signed it, or it was changed since.
        """
        try:
            self._public_key().verify(bytes.fromhex(signature), data)
        except (InvalidSignature, ValueError):
            raise IntegrityError(
                "the manifest's signature does not fit BACKUP_VERIFY_KEY: it was changed, or another key signed it; "
                "use a set whose signature holds, or the verify key of the stack that wrote it"
            ) from None

    def fingerprint(self) -> tuple[str, dict[str, str]]:
        """Fingerprint the applications' secrets under a fresh key.

        Returns: that key encrypted to the recipients (base64), and HMAC-SHA-256 in hex by variable name.
        """
        key = secrets.token_bytes(32)
        return base64.b64encode(self.encrypt_bytes(key)).decode(), self._fingerprints(key)

    def differing_keys(self, wrapped_key: str, recorded: dict[str, str]) -> list[str]:
        """Name the applications' secrets that are not those recorded, or are missing here.

        Args:
            wrapped_key, recorded: as `fingerprint` returned them.
        """
        present = self._fingerprints(self.decrypt_bytes(base64.b64decode(wrapped_key)))
        return sorted(name for name, value in recorded.items() if not hmac.compare_digest(value, present.get(name, "")))

    def _fingerprints(self, key: bytes) -> dict[str, str]:
        return {
            name: hmac.new(key, secret.get_secret_value().encode(), hashlib.sha256).hexdigest()
            for name, secret in sorted(self.application_keys.items())
        }

    def _recipients(self) -> list[pyrage.x25519.Recipient]:
        if not self.recipients:
            raise SettingsError("backup keys: no recipients; set BACKUP_AGE_RECIPIENTS to one or more age1... keys")
        try:
            return [pyrage.x25519.Recipient.from_str(text) for text in self.recipients]
        except pyrage.RecipientError:
            raise SettingsError("backup keys: a recipient is not an age public key (age1...); see `age-keygen`") from None

    def _identity(self) -> pyrage.x25519.Identity:
        if self.identity is None or not self.identity.get_secret_value():
            raise SettingsError("backup keys: no age identity here; set BACKUP_AGE_IDENTITY to open encrypted backups")
        try:
            return pyrage.x25519.Identity.from_str(self.identity.get_secret_value().strip())
        except pyrage.IdentityError:
            raise SettingsError("backup keys: BACKUP_AGE_IDENTITY is not an age secret key (AGE-SECRET-KEY-1...)") from None

    def _private_key(self) -> Ed25519PrivateKey:
        if self.signing_key is None or not self.signing_key.get_secret_value():
            raise SettingsError("backup keys: no signing key here; set BACKUP_SIGNING_KEY (32 bytes as hex)")
        try:
            return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.signing_key.get_secret_value().strip()))
        except ValueError:
            raise SettingsError("backup keys: BACKUP_SIGNING_KEY is not 32 bytes as hex; `openssl rand -hex 32`") from None

    def _public_key(self) -> Ed25519PublicKey:
        if not self.verify_key and self.signing_key is None:
            raise SettingsError("backup keys: nothing to verify manifests with; set BACKUP_VERIFY_KEY (or BACKUP_SIGNING_KEY)")
        if not self.verify_key:
            return self._private_key().public_key()
        try:
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.verify_key.strip()))
        except ValueError:
            raise SettingsError("backup keys: BACKUP_VERIFY_KEY is not 32 bytes as hex") from None

    @staticmethod
    def _why(reason: str) -> str:
        if "matching keys" in reason.lower():
            return (
                "the age identity cannot open this backup: it was encrypted to other keys; "
                "give BACKUP_AGE_IDENTITY the secret key of one of the manifest's recipients"
            )
        return "an encrypted object is damaged: it does not decrypt to its end; restore from another set"


class _Ends:
    """Both ends of an encryption, as pyrage wants them; keeps what went wrong at them.

    pyrage turns an exception of the source into an EncryptError or DecryptError that only has its text.
    """

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source, self._target = source, target
        self.error: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(size)
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes, /) -> int:
        try:
            return self._target.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._target.flush()

"""Whether a stored secret was sealed with a key (facts: apps.md 1.4, 2.1). What is opened to see that is dropped at once.

- LiteLLM: XSalsa20-Poly1305 (NaCl's SecretBox) keyed with the SHA-256 of the salt key, nonce in front, as base64; or, where an
  operator chose so, AES-256-GCM behind `v2:gcm:`.
- Langfuse: AES-256-GCM, `iv:ciphertext:tag` in hexadecimal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

__all__ = ["langfuse_opens", "litellm_opens"]

_GCM = "v2:gcm:"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{54,}={0,2}")
"""Nonce, authenticator and nothing else are 40 bytes."""
_HEX = re.compile(r"([0-9a-f]{24}|[0-9a-f]{32}):((?:[0-9a-f]{2})*):([0-9a-f]{32})")
_ENCRYPTION_KEY = re.compile(r"[0-9a-fA-F]{64}")


def litellm_opens(value: str, salt_key: str) -> bool | None:
    """Say whether a value in LiteLLM's database was sealed with a salt key; None: it is no sealed value."""
    key = hashlib.sha256(salt_key.encode()).digest()
    if value.startswith(_GCM):
        sealed = _decoded(value.removeprefix(_GCM))
        return None if sealed is None or len(sealed) < 28 else _gcm(key, sealed[:12], sealed[12:])
    sealed = _decoded(value) if _BASE64.fullmatch(value) else None
    return None if sealed is None or len(sealed) < 40 else _box(key, sealed)


def langfuse_opens(value: str, encryption_key: str) -> bool | None:
    """Say whether a value in Langfuse's database was sealed with an encryption key; None: it is no sealed value."""
    found = _HEX.fullmatch(value)
    if found is None:
        return None
    if not _ENCRYPTION_KEY.fullmatch(encryption_key):
        return False
    nonce, text, tag = (bytes.fromhex(part) for part in found.groups())
    return _gcm(bytes.fromhex(encryption_key), nonce, text + tag)


def _decoded(text: str) -> bytes | None:
    padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
    try:
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return None


def _gcm(key: bytes, nonce: bytes, sealed: bytes) -> bool:
    try:
        AESGCM(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return False
    return True


def _box(key: bytes, sealed: bytes) -> bool:
    try:
        SecretBox(key).decrypt(sealed)
    except CryptoError:
        return False
    return True

"""Whether a stored secret was sealed with a key, proven without reading it (facts: apps.md 1.4, 2.1).

- LiteLLM: XSalsa20-Poly1305 (NaCl's SecretBox) keyed with the SHA-256 of the salt key, nonce in front, as base64; or, where an
  operator chose so, AES-256-GCM behind `v2:gcm:`.
- Langfuse: AES-256-GCM, `iv:ciphertext:tag` in hexadecimal.

Of a SecretBox only the authenticator is computed: its key is the first half block of the key stream, the text stays sealed.
XSalsa20: D. J. Bernstein, "Extending the Salsa20 nonce" (2011).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

__all__ = ["langfuse_opens", "litellm_opens"]

_GCM = "v2:gcm:"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{54,}={0,2}")
"""Nonce, authenticator and nothing else are 40 bytes."""
_HEX = re.compile(r"([0-9a-f]{24}|[0-9a-f]{32}):((?:[0-9a-f]{2})*):([0-9a-f]{32})")
_ENCRYPTION_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def litellm_opens(value: str, salt_key: str) -> bool | None:
    """Say whether a value in LiteLLM's database was sealed with a salt key; None: it is no sealed value."""
    key = hashlib.sha256(salt_key.encode()).digest()
    if value.startswith(_GCM):
        sealed = _decoded(value.removeprefix(_GCM))
        return None if sealed is None or len(sealed) < 28 else _gcm(key, sealed[:12], sealed[12:])
    sealed = _decoded(value) if _BASE64.fullmatch(value) else None
    return None if sealed is None or len(sealed) < 40 else _box(key, sealed[:24], sealed[24:])


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


def _box(key: bytes, nonce: bytes, sealed: bytes) -> bool:
    """Compare the authenticator, which stands in front of the text."""
    words = _rounds(key, nonce[:16])
    subkey = struct.pack("<8I", *(words[place] for place in (0, 5, 10, 15, 6, 7, 8, 9)))  # HSalsa20: no addition at the end
    block = nonce[16:] + bytes(8)
    first = [(one + two) & 0xFFFFFFFF for one, two in zip(_rounds(subkey, block), _state(subkey, block), strict=True)]
    try:
        Poly1305.verify_tag(struct.pack("<8I", *first[:8]), sealed[16:], sealed[:16])
    except InvalidSignature:
        return False
    return True


def _state(key: bytes, block: bytes) -> list[int]:
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", block)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]


def _rounds(key: bytes, block: bytes) -> list[int]:
    """Salsa20's twenty rounds over key and nonce."""
    x = _state(key, block)
    for _ in range(10):
        for a, b, c, d in _COLUMNS + _ROWS:
            x[b] ^= _turned(x[a] + x[d], 7)
            x[c] ^= _turned(x[b] + x[a], 9)
            x[d] ^= _turned(x[c] + x[b], 13)
            x[a] ^= _turned(x[d] + x[c], 18)
    return x


def _turned(value: int, by: int) -> int:
    value &= 0xFFFFFFFF
    return ((value << by) | (value >> (32 - by))) & 0xFFFFFFFF


_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))

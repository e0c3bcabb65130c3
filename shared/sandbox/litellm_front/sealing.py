"""How LiteLLM keeps what must not be read in Postgres: XSalsa20-Poly1305, keyed with the SHA-256 of the salt key, as base64url.

Source: facts on LiteLLM's environment, 1.4, LITELLM_SALT_KEY.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

__all__ = ["Unsealable", "seal", "seal_texts", "unseal", "unseal_texts"]


class Unsealable(ValueError):
    """A value was sealed with another salt key, or is none of ours."""


def seal(value: str, salt_key: str) -> str:
    """Encrypt a text; another result each time."""
    return base64.urlsafe_b64encode(_box(salt_key).encrypt(value.encode())).decode()


def unseal(value: str, salt_key: str) -> str:
    """Decrypt what `seal` or LiteLLM made.

    Raises:
        Unsealable: with this salt key it cannot be done.
    """
    try:
        return _box(salt_key).decrypt(base64.urlsafe_b64decode(value)).decode()
    except (CryptoError, binascii.Error, ValueError):
        raise Unsealable("a stored value cannot be decrypted; is LITELLM_SALT_KEY the one it was stored with?") from None


def seal_texts(values: Mapping[str, Any], salt_key: str) -> dict[str, Any]:
    """Encrypt the texts among some parameters; numbers and the like stay, as in LiteLLM."""
    return {name: seal(value, salt_key) if isinstance(value, str) else value for name, value in values.items()}


def unseal_texts(values: Mapping[str, Any], salt_key: str) -> dict[str, Any]:
    """The opposite of `seal_texts`.

    Raises:
        Unsealable: as `unseal`.
    """
    return {name: unseal(value, salt_key) if isinstance(value, str) else value for name, value in values.items()}


def _box(salt_key: str) -> SecretBox:
    return SecretBox(sha256(salt_key.encode()).digest())

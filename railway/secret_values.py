"""Makes the secrets of a stack where it is deployed from: Railway makes none outside of its templates.

A secret is made once and then never again: whoever deploys keeps what the environment already has.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from uuid import UUID, uuid4

import pyrage
from cryptography.fernet import Fernet

from blocks.errors import SettingsError
from railway.stack import Secret, SecretKind

__all__ = ["fits", "generate"]

USER = "operator"
"""Of an AUTH_STRING."""
_ALPHABET = string.ascii_letters + string.digits


def generate(secret: Secret, known: Mapping[str, str] | None = None) -> str:
    """Make a value of a secret's kind.

    Args:
        secret: what it has to look like.
        known: variables of the same service that are there already, for what follows from them.
    Raises:
        SettingsError: it cannot be made up, or what it follows from is not known; says what to give. Never a value.
    """
    match secret.kind:
        case SecretKind.PASSWORD:
            return _drawn(secret.length)
        case SecretKind.SK:
            return f"sk-{_drawn(secret.length)}"
        case SecretKind.HEX:
            return secrets.token_hex(secret.length // 2)
        case SecretKind.LANGFUSE_PUBLIC_KEY | SecretKind.LANGFUSE_SECRET_KEY:
            return f"{secret.kind}-{uuid4()}"
        case SecretKind.AUTH_STRING:
            return f"{USER}:{_drawn(secret.length)}"
        case SecretKind.FERNET:
            return Fernet.generate_key().decode()
        case SecretKind.AGE_IDENTITY:
            return str(pyrage.x25519.Identity.generate())
        case SecretKind.AGE_RECIPIENT:
            return _recipient(secret.of, known or {})
        case SecretKind.GIVEN:
            raise SettingsError(f"secret: nobody can make it up; give the {secret.what or 'value'}")


def fits(secret: Secret, value: str) -> bool:
    """Say whether a value is of a secret's kind; what is GIVEN fits whenever it is not empty."""
    kind, plain = secret.kind, f"[A-Za-z0-9]{{{secret.length}}}"
    match kind:
        case SecretKind.HEX:
            return re.fullmatch(f"[0-9a-fA-F]{{{secret.length}}}", value) is not None
        case SecretKind.LANGFUSE_PUBLIC_KEY | SecretKind.LANGFUSE_SECRET_KEY:
            return value.startswith(f"{kind}-") and _is_uuid(value.removeprefix(f"{kind}-"))
        case SecretKind.PASSWORD | SecretKind.SK | SecretKind.AUTH_STRING:
            before = {SecretKind.SK: "sk-", SecretKind.AUTH_STRING: "[^:]+:"}.get(kind, "")
            return re.fullmatch(before + plain, value) is not None
        case SecretKind.FERNET:
            return re.fullmatch(r"[A-Za-z0-9_-]{43}=", value) is not None
        case SecretKind.AGE_IDENTITY:
            return _parses(pyrage.x25519.Identity, value)
        case SecretKind.AGE_RECIPIENT:
            return _parses(pyrage.x25519.Recipient, value)
        case SecretKind.GIVEN:
            return bool(value)


def _drawn(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _recipient(variable: str, known: Mapping[str, str]) -> str:
    if variable not in known:
        raise SettingsError(f"secret: the public key of {variable} cannot be made before {variable} itself")
    try:
        return str(pyrage.x25519.Identity.from_str(known[variable].strip()).to_public())
    except pyrage.IdentityError:
        raise SettingsError(f"secret: {variable} is no age secret key; expected AGE-SECRET-KEY-1...") from None


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _parses(kind: type[pyrage.x25519.Identity] | type[pyrage.x25519.Recipient], value: str) -> bool:
    try:
        kind.from_str(value)
    except (pyrage.IdentityError, pyrage.RecipientError):
        return False
    return True

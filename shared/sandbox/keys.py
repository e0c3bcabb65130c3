"""Throw-away keys for one sandbox: real ones of every kind that a production stack has."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.engines.files import write_private
from shared.sandbox.alert_sinks import SinkKeys
from shared.sandbox.postgres_roles import Passwords, new_passwords

__all__ = ["SandboxKeys"]


@dataclass(frozen=True, repr=False)
class SandboxKeys:
    """The secrets of a sandbox that no engine makes for itself.

    Attributes:
        recovery_identity: age secret key that in production is kept offline.
        drill_identity: age secret key that drills and restores use.
        recipients: their public keys, in that order.
        signing_key: Ed25519 private key, 32 bytes as hex. verify_key: its public key, hex.
        litellm_salt_key: LiteLLM's LITELLM_SALT_KEY. litellm_master_key: its LITELLM_MASTER_KEY.
        encryption_key: Langfuse's ENCRYPTION_KEY, 64 hex digits. langfuse_salt: its SALT.
        langfuse_public_key, langfuse_secret_key: of the project that Langfuse makes at its start.
        langfuse_admin_key: Langfuse's ADMIN_API_KEY.
        store_secret_key: S3 secret of the identity that takes backups. source_secret_key: of the one that Langfuse's bucket
            belongs to. copy_secret_key: of the one that copies go to, on another server.
        postgres: passwords of the roles. sinks: secrets of the alert sinks.
    """

    recovery_identity: str
    drill_identity: str
    recipients: tuple[str, str]
    signing_key: str
    verify_key: str
    litellm_salt_key: str
    litellm_master_key: str
    encryption_key: str
    langfuse_salt: str
    langfuse_public_key: str
    langfuse_secret_key: str
    langfuse_admin_key: str
    store_secret_key: str
    source_secret_key: str
    copy_secret_key: str
    postgres: Passwords
    sinks: SinkKeys

    @property
    def postgres_passwords(self) -> dict[str, str]:
        """Passwords of the Postgres roles, by the role's name."""
        return asdict(self.postgres)

    @classmethod
    def generate(cls) -> Self:
        """Make new ones."""
        recovery, drill = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        signing = Ed25519PrivateKey.generate()
        return cls(
            recovery_identity=str(recovery),
            drill_identity=str(drill),
            recipients=(str(recovery.to_public()), str(drill.to_public())),
            signing_key=signing.private_bytes_raw().hex(),
            verify_key=signing.public_key().public_bytes_raw().hex(),
            litellm_salt_key="sk-" + secrets.token_urlsafe(24),
            litellm_master_key="sk-" + secrets.token_urlsafe(24),
            encryption_key=secrets.token_hex(32),
            langfuse_salt=secrets.token_urlsafe(24),
            langfuse_public_key=f"pk-lf-{uuid4()}",
            langfuse_secret_key=f"sk-lf-{uuid4()}",
            langfuse_admin_key=secrets.token_urlsafe(36),
            store_secret_key=secrets.token_urlsafe(24),
            source_secret_key=secrets.token_urlsafe(24),
            copy_secret_key=secrets.token_urlsafe(24),
            postgres=new_passwords(),
            sinks=SinkKeys.generate(),
        )

    @classmethod
    def read_or_create(cls, path: Path) -> Self:
        """The keys in a file, which is made, for its owner only, if there is none; those that it lacks are added."""
        kept = json.loads(path.read_text()) if path.exists() else {}
        values = asdict(cls.generate()) | kept
        if values != kept:
            write_private(path, json.dumps(values, indent=2) + "\n")
        recipients = tuple(values.pop("recipients"))
        postgres, sinks = Passwords(**values.pop("postgres")), SinkKeys(**values.pop("sinks"))
        return cls(**values, recipients=recipients, postgres=postgres, sinks=sinks)

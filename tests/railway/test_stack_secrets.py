"""Secrets are of their kind, each another one, and nobody who prints a stack sees one."""

from __future__ import annotations

import pyrage
import pytest
from cryptography.fernet import Fernet

from blocks.errors import SettingsError
from railway.secret_values import fits, generate
from railway.stack import Secret, SecretKind
from tests.railway.rendered import secrets
from tests.railway.stacks import shipped

MADE = [kind for kind in SecretKind if kind not in (SecretKind.GIVEN, SecretKind.AGE_RECIPIENT)]


@pytest.mark.parametrize("kind", MADE)
def test_a_secret_is_of_its_kind_and_no_two_are_the_same(kind: SecretKind) -> None:
    secret = Secret(kind)
    values = {generate(secret) for _ in range(20)}
    assert len(values) == 20
    assert all(fits(secret, value) for value in values)
    assert not any(fits(secret, wrong) for value in values for wrong in ("", value[:-1], f"{value} ", f"{value}\n"))


def test_the_length_is_what_is_drawn() -> None:
    assert len(generate(Secret(SecretKind.HEX, 64))) == 64
    assert len(generate(Secret(SecretKind.SK, 32))) == 35
    assert len(generate(Secret(SecretKind.PASSWORD, 48))) == 48


def test_prefect_s_encryption_key_is_one_that_fernet_takes() -> None:
    key = Fernet(generate(Secret(SecretKind.FERNET)))
    assert key.decrypt(key.encrypt(b"block")) == b"block"


def test_what_is_encrypted_to_the_drill_s_recipient_opens_with_its_identity() -> None:
    known = {"BACKUP_AGE_IDENTITY": generate(Secret(SecretKind.AGE_IDENTITY))}
    recipient = generate(Secret(SecretKind.AGE_RECIPIENT, of="BACKUP_AGE_IDENTITY"), known)
    assert fits(Secret(SecretKind.AGE_RECIPIENT), recipient)
    sealed = pyrage.encrypt(b"dump", [pyrage.x25519.Recipient.from_str(recipient)])
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(known["BACKUP_AGE_IDENTITY"])]) == b"dump"


def test_a_recipient_without_its_identity_and_a_key_that_only_people_have_are_asked_for() -> None:
    recipient = Secret(SecretKind.AGE_RECIPIENT, of="BACKUP_AGE_IDENTITY")
    with pytest.raises(SettingsError, match="BACKUP_AGE_IDENTITY"):
        generate(recipient)
    with pytest.raises(SettingsError) as refused:
        generate(recipient, {"BACKUP_AGE_IDENTITY": "canary-3f9a"})
    assert "canary-3f9a" not in str(refused.value)
    with pytest.raises(SettingsError, match="give the Key of OpenAI"):
        generate(Secret(SecretKind.GIVEN, what="Key of OpenAI"))


def test_what_langfuse_and_litellm_demand_of_their_keys_is_met() -> None:
    made = secrets(shipped())
    assert made["litellm", "LITELLM_MASTER_KEY"].startswith("sk-")
    assert len(bytes.fromhex(made["langfuse-web", "ENCRYPTION_KEY"])) == 32
    assert len(bytes.fromhex(made["prefect-worker", "BACKUP_SIGNING_KEY"])) == 32
    assert made["langfuse-web", "LANGFUSE_INIT_PROJECT_PUBLIC_KEY"].startswith("pk-lf-")
    assert ":" in made["prefect-server", "PREFECT_SERVER_API_AUTH_STRING"]
    assert not set("&=#?%+@ :/") & set(made["clickhouse", "CLICKHOUSE_PASSWORD"]), "it is put into a URL as it is"

"""Keys: age as others speak it, signatures, fingerprints, and clear words about wrong ones."""

from __future__ import annotations

import io
import secrets
import shutil
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pydantic import SecretStr

from blocks.errors import IntegrityError, SettingsError, StoreError
from blocks.keys import BackupKeys

PLAIN = secrets.token_bytes(300_000)


def _copy(keys: BackupKeys, **changes: Any) -> BackupKeys:
    return keys.model_copy(update=changes)


def _identity(keys: BackupKeys) -> str:
    assert keys.identity is not None
    return keys.identity.get_secret_value()


def _encrypted(keys: BackupKeys, plain: bytes = PLAIN) -> bytes:
    target = io.BytesIO()
    keys.encrypt(io.BytesIO(plain), target)
    return target.getvalue()


def _decrypted(keys: BackupKeys, data: bytes) -> bytes:
    target = io.BytesIO()
    keys.decrypt(io.BytesIO(data), target)
    return target.getvalue()


@pytest.mark.parametrize("plain", [b"", b"x", PLAIN, bytes(65536), bytes(65537)], ids=len)
def test_what_is_encrypted_decrypts_to_the_same(keys: BackupKeys, plain: bytes) -> None:
    assert _decrypted(keys, _encrypted(keys, plain)) == plain
    assert keys.decrypt_bytes(keys.encrypt_bytes(plain)) == plain


def test_every_recipient_can_decrypt(keys: BackupKeys) -> None:
    offline = pyrage.x25519.Identity.generate()
    data = _encrypted(_copy(keys, recipients=[str(offline.to_public()), *keys.recipients]))
    assert _decrypted(keys, data) == PLAIN
    assert _decrypted(_copy(keys, identity=SecretStr(str(offline))), data) == PLAIN


def test_taking_backups_needs_only_public_keys(keys: BackupKeys) -> None:
    taker = _copy(keys, identity=None)
    taker.check()
    assert _decrypted(keys, _encrypted(taker)) == PLAIN
    with pytest.raises(SettingsError, match="BACKUP_AGE_IDENTITY"):
        _decrypted(taker, b"")


@pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not installed: apt-get install age")
def test_the_age_program_and_these_keys_read_each_other(keys: BackupKeys, tmp_path: Path) -> None:
    key_file = tmp_path / "key.txt"
    key_file.write_text(_identity(keys) + "\n")
    decrypt = subprocess.run(["age", "-d", "-i", str(key_file)], input=_encrypted(keys), capture_output=True, check=True)
    assert decrypt.stdout == PLAIN
    encrypt = subprocess.run(["age", "-r", keys.recipients[0]], input=PLAIN, capture_output=True, check=True)
    assert _decrypted(keys, encrypt.stdout) == PLAIN


def test_a_wrong_identity_is_told_from_damage(keys: BackupKeys) -> None:
    stranger = _copy(keys, identity=SecretStr(str(pyrage.x25519.Identity.generate())))
    with pytest.raises(IntegrityError, match="encrypted to other keys"):
        _decrypted(stranger, _encrypted(keys))
    with pytest.raises(IntegrityError, match="encrypted to other keys"):
        stranger.decrypt_bytes(keys.encrypt_bytes(b"x"))


@pytest.mark.parametrize(
    ("what", "damaged"),
    [
        ("cut in the header", lambda data: data[:100]),
        ("cut in the middle", lambda data: data[:150_000]),
        ("cut at a chunk's end", lambda data: data[: data.index(b"\n", data.index(b"--- ")) + 1 + 16 + 2 * (65536 + 16)]),
        ("last byte missing", lambda data: data[:-1]),
        ("a flipped byte", lambda data: data[:200_000] + bytes([data[200_000] ^ 1]) + data[200_001:]),
        ("a byte more", lambda data: data + b"\0"),
        ("nothing", lambda data: b""),
        ("something else", lambda data: b"PGDMP" + data[5:]),
    ],
)
def test_damage_is_an_integrity_error(keys: BackupKeys, what: str, damaged: Any) -> None:
    data = damaged(_encrypted(keys))
    with pytest.raises(IntegrityError, match="damaged"):
        _decrypted(keys, data)


class Breaking(io.BytesIO):
    """Breaks after some bytes, when read or written."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self._after = after

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._after:
            raise StoreError("the store is gone")
        return super().read(size)

    def write(self, data: Any, /) -> int:
        if self.tell() >= self._after:
            raise BrokenPipeError("nobody reads")
        return super().write(data)


@pytest.mark.parametrize("after", [0, 100, 100_000])
def test_what_the_source_raises_is_raised_and_not_called_damage(keys: BackupKeys, after: int) -> None:
    """pyrage alone turns it into an EncryptError or DecryptError, which no retry policy knows."""
    with pytest.raises(StoreError, match="the store is gone"):
        keys.encrypt(Breaking(PLAIN, after), io.BytesIO())
    with pytest.raises(StoreError, match="the store is gone"):
        keys.decrypt(Breaking(_encrypted(keys), after), io.BytesIO())


def test_what_the_target_raises_is_raised(keys: BackupKeys) -> None:
    with pytest.raises(BrokenPipeError):
        keys.encrypt(io.BytesIO(PLAIN), Breaking(b"", 1000))
    with pytest.raises(BrokenPipeError):
        keys.decrypt(io.BytesIO(_encrypted(keys)), Breaking(b"", 1000))


def test_a_signature_holds_for_the_data_and_for_nothing_else(keys: BackupKeys) -> None:
    public, signature = keys.sign(b"manifest")
    keys.verify(b"manifest", signature)
    _copy(keys, signing_key=None, verify_key=public).verify(b"manifest", signature)
    for data, value in ((b"manifesT", signature), (b"manifest", "00" * 64), (b"manifest", "no hex"), (b"manifest", "")):
        with pytest.raises(IntegrityError, match="signature does not fit BACKUP_VERIFY_KEY"):
            keys.verify(data, value)


def test_another_stack_s_signature_is_refused(keys: BackupKeys) -> None:
    _, signature = _copy(keys, signing_key=SecretStr(secrets.token_hex(32))).sign(b"manifest")
    with pytest.raises(IntegrityError, match="another key signed it"):
        keys.verify(b"manifest", signature)


def test_differing_application_keys_are_named(keys: BackupKeys) -> None:
    wrapped, recorded = keys.fingerprint()
    assert keys.differing_keys(wrapped, recorded) == []
    salt, other = keys.application_keys["LITELLM_SALT_KEY"], SecretStr("another")
    changed = _copy(
        keys, application_keys={"LITELLM_SALT_KEY": other, "ENCRYPTION_KEY": keys.application_keys["ENCRYPTION_KEY"]}
    )
    assert changed.differing_keys(wrapped, recorded) == ["LITELLM_SALT_KEY"]
    assert _copy(keys, application_keys={"LITELLM_SALT_KEY": salt}).differing_keys(wrapped, recorded) == ["ENCRYPTION_KEY"]
    assert _copy(keys, application_keys={}).differing_keys(wrapped, recorded) == ["ENCRYPTION_KEY", "LITELLM_SALT_KEY"]


def test_fingerprints_of_the_same_keys_are_unlike_each_other(keys: BackupKeys) -> None:
    """Or who reads the store could tell when a key was changed, or compare stacks."""
    assert keys.fingerprint()[1] != keys.fingerprint()[1]


def test_fingerprints_need_the_identity(keys: BackupKeys) -> None:
    wrapped, recorded = keys.fingerprint()
    with pytest.raises(SettingsError, match="BACKUP_AGE_IDENTITY"):
        _copy(keys, identity=None).differing_keys(wrapped, recorded)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipients": []}, "set BACKUP_AGE_RECIPIENTS"),
        ({"recipients": ["age1nonsense"]}, "not an age public key"),
        ({"identity": SecretStr("AGE-SECRET-KEY-1CANARY")}, "BACKUP_AGE_IDENTITY is not an age secret key"),
        ({"identity": SecretStr(str(pyrage.x25519.Identity.generate()))}, "belongs to none of the recipients"),
        ({"signing_key": SecretStr("CANARY")}, "BACKUP_SIGNING_KEY is not 32 bytes as hex"),
        ({"signing_key": SecretStr("ab" * 31)}, "BACKUP_SIGNING_KEY is not 32 bytes as hex"),
        ({"verify_key": "CANARY"}, "BACKUP_VERIFY_KEY is not 32 bytes as hex"),
        ({"verify_key": "ab" * 32}, "BACKUP_VERIFY_KEY does not belong to BACKUP_SIGNING_KEY"),
        ({"signing_key": None}, "set BACKUP_VERIFY_KEY"),
    ],
)
def test_check_says_which_key_is_wrong_and_what_it_should_be(keys: BackupKeys, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        _copy(keys, **changes).check()
    assert "CANARY" not in "".join(traceback.format_exception(raised.value)).replace('"CANARY"', "")


def test_good_keys_pass(keys: BackupKeys) -> None:
    keys.check()
    public, _ = keys.sign(b"")
    _copy(keys, verify_key=public).check()
    _copy(keys, signing_key=None, verify_key=public).check()


def test_secrets_are_not_shown(keys: BackupKeys) -> None:
    shown = repr(keys) + str(keys) + keys.model_dump_json()
    assert keys.signing_key is not None
    for secret in (_identity(keys), keys.signing_key.get_secret_value(), "sk-salt", "00" * 32):
        assert secret not in shown

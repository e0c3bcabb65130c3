"""Values that a journal has to keep, and that are secrets: encrypted as backups are, opened by the worker's identity alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from blocks.errors import IntegrityError, SettingsError
from blocks.keys import BackupKeys

__all__ = ["need_identity", "seal", "unseal"]


def need_identity(keys: BackupKeys) -> None:
    """Go on only where what is sealed now can be opened when it has to be put back.

    Raises:
        SettingsError: this worker has no identity.
    """
    if keys.identity is None:
        raise SettingsError(
            "upgrade: BACKUP_AGE_IDENTITY is not set here, so that what is put aside could not be put back; nothing was "
            "changed; give it to this worker, or run the upgrade in the pool of the drills"
        )


def seal(keys: BackupKeys, values: Mapping[str, str | None]) -> str:
    """Encrypt values for a journal. None stands for: there was none."""
    return base64.b64encode(keys.encrypt_bytes(json.dumps(dict(values)).encode())).decode()


def unseal(keys: BackupKeys, text: str) -> dict[str, str | None]:
    """Open what `seal` made.

    Raises:
        SettingsError: there is no identity here. IntegrityError: it cannot be opened with it.
    """
    data = keys.decrypt_bytes(base64.b64decode(text))
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise IntegrityError("upgrade: what was sealed in the journal is not what it should be; see the store's upgrades/")
    return found

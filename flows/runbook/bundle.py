"""A bundle of texts for people outside: nothing secret in it, of bounded size, one zip that can be attached to an issue.

Two layers keep secrets out: every value that this process knows to be one is cut out of every text, and so is what looks like
a credential anyway (`blocks/railway_api/redaction.py`), or stands under the name of one.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr

from blocks.railway_api.redaction import HIDDEN, Secrets
from blocks.settings import Settings

__all__ = ["LARGEST", "LARGEST_PART", "Bundle", "secrets_of", "settings_shown"]

LARGEST_PART = 512 << 10
LARGEST = 8 << 20
"""Bytes before they are compressed."""
_CUT = "... (what stood before is cut off)\n"
_IDS = ("access_key", "slack_users", "slack_channel")
"""Settings that are no secrets, and nobody else's business either."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file: the same content is the same zip."""


@dataclass
class Bundle:
    """Files by name.

    Attributes:
        secrets: what must not be in it. parts: texts, already clean. dropped: names for which there was no room.
        most, most_part: bytes of all parts and of one, before they are compressed.
    """

    secrets: Secrets
    parts: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    most: int = LARGEST
    most_part: int = LARGEST_PART

    def add_text(self, name: str, text: str) -> None:
        """Add lines; of a long text its end, which is the newest."""
        newest = text[-2 * self.most_part :]  # what is cut off anyway need not be cleaned
        if len(newest) < len(text):
            newest = newest.partition("\n")[2]  # half a line may be half a secret
        clean = self.secrets.scrub(newest)
        data = clean.encode()
        if len(data) > self.most_part:
            data = data[-self.most_part :].partition(b"\n")[2]
        is_cut = len(newest) < len(text) or len(data) < len(clean.encode())
        self._keep(name, f"{_CUT if is_cut else ''}{data.decode(errors='ignore')}")

    def add(self, name: str, value: Any) -> None:
        """Add a value as JSON; of a long list its beginning, which is the newest, so that it stays JSON.

        Texts in it are cleaned before they are written as JSON, where quotes and line ends would hide a secret.
        """
        clean = _clean(value, self.secrets)
        text = _json(clean)
        while len(text.encode()) > self.most_part and isinstance(clean, list) and len(clean) > 1:
            clean = clean[: len(clean) // 2]
            text = _json(clean)
        self._keep(name, text)

    def _keep(self, name: str, clean: str) -> None:
        room = self.most - sum(len(part.encode()) for part in self.parts.values())
        if len(clean.encode()) > room:
            self.dropped.append(name)
        else:
            self.parts[name] = clean

    def packed(self) -> bytes:
        """The zip."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.parts.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), text.encode(), zipfile.ZIP_DEFLATED)
        return made.getvalue()


def secrets_of(blocks: Iterable[BaseModel | None], environment: Mapping[str, str] | None = None) -> Secrets:
    """What must not be said: every secret of these blocks, and of the environment by the settings' and by their own names.

    Args:
        environment: default this process's.
    """
    known = os.environ if environment is None else environment
    found = Secrets()
    found.learn({name: value for name, value in known.items() if _is_secret(name)})
    for block in blocks:
        if block is not None:
            found.learn({f"SECRET_{number}": value for number, value in enumerate(_secrets(block))})
    return found


def settings_shown(settings: Settings) -> dict[str, object]:
    """The settings for a stranger: of secrets, and of who and whose, only whether they are set."""
    shown: dict[str, object] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name in _SECRET_SETTINGS or name.endswith(_IDS):
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            shown[name] = bool(text)
        else:
            shown[name] = value
    return shown


_SECRET_SETTINGS = frozenset(
    name for name, field in Settings.model_fields.items() if SecretStr in (field.annotation, *get_args(field.annotation))
)
_WORDS = ("PASS", "SECRET", "TOKEN", "KEY", "SALT", "AUTH", "CREDENTIAL", "PRIVATE", "DSN", "IDENTITY")

_NAMED = ("PASSWORD", "SECRET", "TOKEN", "_KEY", "APIKEY", "SALT", "CREDENTIAL", "AUTHORIZATION", "AUTH_STRING", "COOKIE")


def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_SETTINGS or any(word in name.upper() for word in _WORDS)


def _secrets(value: object) -> Iterator[str]:
    """Every secret within a model, however deep."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name, None))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _secrets(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _secrets(one)


def _clean(value: Any, secrets: Secrets) -> Any:
    """The same with every text in it scrubbed."""
    if isinstance(value, BaseModel):
        return _clean(value.model_dump(mode="json"), secrets)
    if isinstance(value, str):
        return secrets.scrub(value)
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, Mapping):
        return {secrets.scrub(str(name)): _clean_below(str(name), one, secrets) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(one, secrets) for one in value]
    return value if isinstance(value, int | float | bool) or value is None else secrets.scrub(str(value))


def _clean_below(name: str, value: Any, secrets: Secrets) -> Any:
    """What stands under a name: a text under the name of a secret is one, whatever it looks like."""
    if isinstance(value, str) and value and any(word in name.upper() for word in _NAMED):
        return HIDDEN
    return _clean(value, secrets)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

"""Private buckets in the stack's own object store."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from blocks.errors import SettingsError, StoreError
from blocks.s3_light import Place, refusal
from blocks.settings import Settings

__all__ = ["create_buckets"]

_TIMEOUT = 20.0
_POLICY = {"policy": ""}


def create_buckets(settings: Settings) -> list[str]:
    """Create the buckets that are missing, and see that strangers are refused in each.

    Args:
        settings: the store, and which buckets.
    Returns: a line for each bucket.
    Raises:
        StoreError: the store does not answer, or refuses.
        SettingsError: a bucket is somebody else's, or stays public.
    """
    endpoint = settings.require("minio_endpoint")
    keys = settings.minio_access_key, settings.minio_secret_key
    with httpx.Client(timeout=_TIMEOUT, trust_env=False, follow_redirects=False) as client:
        places = [Place(endpoint, name, settings.backup_region, *keys) for name in settings.setup_buckets]
        return [line for place in places for line in _one(client, place)]


def _one(client: httpx.Client, place: Place) -> Iterator[str]:
    made = not _exists(client, place)
    if made:
        _done(_send(client, place.signed("PUT"), f"create bucket {place.bucket}"), f"create bucket {place.bucket}")
    was_public = _is_public(client, place)
    if was_public:
        doing = f"take the policy of bucket {place.bucket} away"
        _done(_send(client, place.signed("DELETE", query=_POLICY), doing), doing)
        if _is_public(client, place):
            raise SettingsError(
                f"bucket {place.bucket}: anybody can list it without a key, and it has no policy that could be taken away; "
                "make it private in the store's own settings (mc anonymous set none)"
            )
    yield f"bucket {place.bucket}: {'created' if made else 'there'}, {'made private' if was_public else 'private'}"


def _exists(client: httpx.Client, place: Place) -> bool:
    doing = f"look for bucket {place.bucket}"
    answer = _send(client, place.signed("HEAD"), doing)
    if answer.status_code == 404:
        return False
    if answer.status_code in (401, 403):
        raise SettingsError(
            f"bucket {place.bucket}: the store refuses it to this key: it is somebody else's, or the key may not; choose "
            "another name, or set MINIO_ACCESS_KEY and its secret to the administrator's"
        )
    _done(answer, doing)
    return True


def _is_public(client: httpx.Client, place: Place) -> bool:
    """Ask as a stranger, without a key."""
    doing = f"ask for bucket {place.bucket} as a stranger"
    answer = _send(client, httpx.Request("GET", place.url(query={"list-type": "2", "max-keys": "1"})), doing)
    if answer.status_code in (401, 403):
        return False
    _done(answer, doing)
    return True


def _send(client: httpx.Client, request: httpx.Request, doing: str) -> httpx.Response:
    try:
        return client.send(request)
    except httpx.HTTPError as error:
        raise StoreError(f"store: {doing}: {type(error).__name__}; is the store reachable?") from None


def _done(answer: httpx.Response, doing: str) -> None:
    if answer.status_code >= 300:
        raise refusal(answer.status_code, answer.content, doing)

"""What an error of botocore means: which of ours it is, and whether trying again can help."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from blocks.errors import ConditionFailed, ObjectMissing, StoreError

S3_ERRORS = (ClientError, BotoCoreError, HTTPError)
"""Whatever a call of boto3 raises. The last is urllib3's own: botocore lets it through where a connection breaks while it reads
an answer that it does not hand out as a stream, such as a listing, or a refusal."""

_TRANSIENT = {
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "ServiceUnavailable",
}
_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled"}
_CONFLICT = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


def translate(error: Exception, doing: str) -> StoreError:
    """Turn an error of botocore into ours.

    Args:
        error: its text carries no secret, but may carry pages of XML, so only its code is kept.
        doing: what was tried, for example `read sets/x/manifest.json`.
    """
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        return _answered(code, int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), doing)
    if isinstance(error, _CREDENTIALS):
        return StoreError(f"store: {doing}: no credentials; set the access key and its secret", permanent=True)
    if isinstance(error, ParamValidationError):
        return StoreError(f"store: {doing}: not a valid request; are the names of bucket and prefix right?", permanent=True)
    return StoreError(f"store: {doing}: {type(error).__name__}; is the store reachable?", permanent=False)


def _answered(code: str, status: int, doing: str) -> StoreError:
    if code in _CONFLICT or status == 412:
        return ConditionFailed(f"store: {doing}: the object changed or exists already ({code})")
    if code in _MISSING:
        return ObjectMissing(f"store: {doing}: not there ({code})")
    if code == "NoSuchBucket":
        return StoreError(f"store: {doing}: the bucket does not exist; create it or correct its name", permanent=True)
    if code == "RequestTimeTooSkewed":
        return StoreError(f"store: {doing}: refused ({code}); set this machine's clock right", permanent=True)
    if code in _TRANSIENT or status >= 500 or status in (0, 429):
        return StoreError(f"store: {doing}: {code} (HTTP {status})", permanent=False)
    if code in _DENIED or status == 403:
        denied = f"store: {doing}: refused ({code}); check the access key, its secret and its policy"
        return StoreError(denied, permanent=True)
    return StoreError(f"store: {doing}: {code} (HTTP {status})", permanent=True)

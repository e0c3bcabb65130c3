"""Any other webhook: JSON, signed, with a key that tells repetitions.

    POST <url>
    Content-Type: application/json
    Idempotency-Key: <id of the notice>             the same for a repetition: drop the second
    X-Alert-Timestamp: 1764080000                   seconds, when it was sent; refuse what is older than five minutes
    X-Alert-Signature: v1=<hex>                     HMAC-SHA256 of "<timestamp>.<body>" under ALERT_WEBHOOK_SECRET

`text` in the body is what the predecessor sent, so its receivers still work.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable

from pydantic import SecretStr

from blocks.alerts.base import TIMEOUT_S, Channel, Notice, Receipt, body, headline
from blocks.secret_url import SecretUrl
from blocks.settings import Severity

__all__ = ["Webhook", "signature"]


class Webhook(Channel):
    """A generic webhook.

    Args:
        name, min_severity: see `Channel`. url: where to. secret: key of the signature; None sends unsigned.
        clock: seconds since 1970, for the signature's timestamp.
    Raises:
        SettingsError: the URL is none.
    """

    repeatable = True

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr | None,
        min_severity: Severity,
        *,
        name: str = "webhook",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, min_severity)
        self._hook = SecretUrl(url, who=name, variable="ALERT_WEBHOOK_URL", timeout=TIMEOUT_S)
        self._secret = secret
        self._clock = clock

    def notify(self, notice: Notice) -> Receipt:
        """Post it. See `Channel.notify`."""
        content = _payload(notice)
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
        if self._secret is not None:
            timestamp = str(int(self._clock()))
            headers["X-Alert-Timestamp"] = timestamp
            headers["X-Alert-Signature"] = signature(self._secret, timestamp, content)
        self._hook.checked(self._hook.request("POST", content=content, headers=headers))
        return Receipt()


def signature(secret: SecretStr, timestamp: str, content: bytes) -> str:
    """Sign a body as the receiver checks it: `v1=` and the HMAC-SHA256 of timestamp, a dot, and the body, as hex."""
    signed = f"{timestamp}.".encode() + content
    return f"v1={hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()}"


def _payload(notice: Notice) -> bytes:
    said = notice.model_dump(mode="json", exclude={"thread"})
    return json.dumps({"version": 1, "text": f"{headline(notice)}\n{body(notice)}", **said}).encode()

"""PagerDuty: Events API v2 through pdpyras (developer.pagerduty.com/docs/events-api-v2).

One alert an incident, by its dedup key: triggered, triggered again by a reminder or an escalation (which PagerDuty adds to the
alert), acknowledged, resolved. A repetition changes nothing, so none is to be feared.
"""

from __future__ import annotations

import warnings
from typing import Any

from pydantic import SecretStr

from blocks.alerts.base import TIMEOUT_S, Channel, Notice, Receipt, body, clip, headline
from blocks.errors import DeliveryFailed
from blocks.secret_url import judge
from blocks.settings import Severity

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # says in every process that it has a successor, `pagerduty`
    import pdpyras

__all__ = ["PagerDuty"]

_SUMMARY = 1024


class PagerDuty(Channel):
    """A service of PagerDuty with an Events API v2 integration.

    Args:
        name, min_severity: see `Channel`. routing_key: the integration key. url: of the Events API.
        variable: the setting that the key comes from.
    """

    repeatable = True
    pages = True

    def __init__(
        self,
        routing_key: SecretStr,
        min_severity: Severity,
        *,
        url: str = "https://events.pagerduty.com",
        name: str = "pagerduty",
        variable: str = "PAGERDUTY_ROUTING_KEY",
    ) -> None:
        super().__init__(name, min_severity)
        self._routing_key = routing_key
        self._url = url.rstrip("/")
        self._variable = variable

    def notify(self, notice: Notice) -> Receipt:
        """Send the event that this notice means. See `Channel.notify`."""
        if notice.kind == "closed":
            self._send("resolve", notice.dedup_key)
        elif notice.kind == "acknowledged":
            self._send("acknowledge", notice.dedup_key)
        else:
            links = [{"href": url, "text": words} for words, url in notice.links.named()]
            self._send("trigger", notice.dedup_key, payload=_payload(notice), links=links, client=notice.stack)
        return Receipt(thread=notice.dedup_key)

    def _send(self, action: str, dedup_key: str, **event: Any) -> None:
        try:
            with _OneTry(self._routing_key.get_secret_value(), self.name, self._variable, self._url) as session:
                session.send_event(action, dedup_key=dedup_key, **event)
        except pdpyras.PDClientError as error:  # its text has the end of the key
            cause = type(error.__cause__ or error).__name__
            raise DeliveryFailed(
                f"{self.name}: no proper answer ({cause}); tried again with the next sweep", uncertain=True
            ) from None


def _payload(notice: Notice) -> dict[str, Any]:
    details: dict[str, Any] = {"sentence": notice.sentence, "aspect": notice.aspect, "opened_at": notice.opened_at.isoformat()}
    if notice.casualties:
        details["also_affected"] = ", ".join(notice.casualties)
    return {
        "summary": clip(f"{headline(notice)}: {body(notice)}".replace("\n", " "), _SUMMARY),
        "source": notice.stack,
        "severity": notice.severity,  # the same three words, and `info`
        "timestamp": notice.at.isoformat(),
        "component": notice.service,
        "group": notice.stack,
        "class": notice.aspect or notice.kind,
        "custom_details": details,
    }


class _OneTry(pdpyras.EventsAPISession):  # type: ignore[misc]  # pdpyras is not typed
    """A session that tries once: left alone it sleeps and tries again, on a 429 for ever."""

    max_network_attempts = 0

    def __init__(self, routing_key: str, who: str, variable: str, url: str) -> None:
        super().__init__(routing_key)
        self.retry: dict[int, int] = {}
        self.timeout = TIMEOUT_S
        self.url = url
        self._who, self._variable = who, variable

    def postprocess(self, response: Any) -> None:
        """Called with every answer, before pdpyras looks at it."""
        judge(self._who, self._variable, response.status_code, response.headers)

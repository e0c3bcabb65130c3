"""Public URLs: does anything answer as people would reach it, and for how long is the certificate good."""

from __future__ import annotations

import ssl
import time

from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.reach import Answer, causes, web
from flows.health.targets import Limits, PublicUrl

__all__ = ["check", "main_aspect"]

_REFUSALS = frozenset({404, 410, 421})
"""What an edge answers where nobody is behind the name any more; other 4xx come of a service that is there."""
_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED."""


def main_aspect(target: PublicUrl) -> str:
    """Name the aspect of a URL's answer: its host, as a service may have several."""
    return f"url-{target.host}"


async def check(target: PublicUrl, found: Findings, limits: Limits) -> None:
    """Look at one URL."""
    found.title = target.host
    aspect, secure = main_aspect(target), f"certificate-{target.host}"
    with found.looking(aspect, Status.DOWN, remedy="see the service behind it, the domain's settings and its DNS"):
        try:
            async with web(target.url) as site:
                answer = await site.get(target.url)
        except NoAnswer as error:
            wrong = next((one for one in causes(error) if isinstance(one, ssl.SSLCertVerificationError)), None)
            if wrong is None:
                raise
            _invalid(wrong, secure, target, found)
            return
        _judge(answer, aspect, target, found)
        if answer.certificate:
            days = (ssl.cert_time_to_seconds(str(answer.certificate["notAfter"])) - time.time()) / 86400
            _certificate(days, secure, target, found, limits)


def _judge(answer: Answer, aspect: str, target: PublicUrl, found: Findings) -> None:
    if answer.status < 500 and answer.status not in _REFUSALS:
        found.add(aspect, Status.OK, f"{target.host} answers", latency_ms=answer.latency_ms)
        return
    todo = "see the service behind it, and whether the domain still leads there"
    found.add(
        aspect,
        Status.DOWN,
        f"{target.host} answers {answer.status}, expected less than 400; {todo}",
        latency_ms=answer.latency_ms,
    )


def _invalid(error: ssl.SSLCertVerificationError, secure: str, target: PublicUrl, found: Findings) -> None:
    what = "has expired" if error.verify_code == _EXPIRED else f"is not accepted ({error.verify_message.split(',')[0]})"
    sentence = f"the certificate of {target.host} {what}, so that nobody gets in; renew it, or see the domain's settings"
    found.add(secure, Status.DOWN, sentence, value=0 if error.verify_code == _EXPIRED else None, unit="days")


def _certificate(days: float, secure: str, target: PublicUrl, found: Findings, limits: Limits) -> None:
    mention, urge, page = limits.certificate_days
    text = f"the certificate of {target.host} is good for {days:.0f} days"
    todo = "see why it was not renewed: the domain's DNS, its CAA records, the edge's settings"
    if days <= page:
        status, text = Status.DOWN, f"{text} only: nobody gets in after that; {todo}"
    elif days <= urge:
        status, text = Status.DEGRADED, f"{text} only, expected more than {mention:g}: renew it now; {todo}"
    elif days <= mention:
        status, text = Status.DEGRADED, f"{text}, expected more than {mention:g}; {todo}"
    else:
        status = Status.OK
    found.add(secure, status, text, value=round(days, 1), limit=mention, unit="days")

"""Nobody gets in from outside."""

from __future__ import annotations

import threading

from shared.gameday.causes.cause import Cause
from shared.gameday.ground import Ground

__all__ = ["CertificateExpires"]

_ISSUE = "customDomainIssueCertificate"


class CertificateExpires(Cause):
    """Railway could not renew the certificate of a domain, and gave up; meanwhile the DNS is right. Then it expires.

    The public site is what Railway's edge is: it shows a new certificate once Railway is asked to issue one.
    """

    key, what = "certificate", "the certificate of a public address has expired"
    service = "public"
    aspects = ("certificate-localhost:*",)
    runbook = "certificate"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._over = threading.Event()

    def cause(self) -> None:
        """As in `Cause`."""
        asked = self._asked()
        self.ground.railway.verify("localhost", "ISSUE_FAILED")
        self.ground.site.days(-1)
        threading.Thread(target=self._edge, args=(asked,), name="edge", daemon=True).start()

    def undo(self) -> None:
        """As in `Cause`."""
        self._over.set()
        self.ground.site.days(90)

    def _edge(self, asked: int) -> None:
        while not self._over.wait(0.5):
            if self._asked() > asked:
                self.ground.site.days(90)
                return

    def _asked(self) -> int:
        return len(self.ground.railway.received(_ISSUE))

"""certificate: that of a public address runs out, has run out, or is another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.railway import RailwayApi
from blocks.railway_api.domains import CustomDomain
from flows.health.observation import Observation
from flows.health.targets import PublicUrl, Targets
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["CertificateRequest", "Expiring", "Known", "certificate", "decide", "sites"]

OF_RAILWAY = (".up.railway.app", ".railway.app")
_PREFIX = "certificate-"


class CertificateRequest(RunbookRequest):
    """Which address."""

    host: str = Field(
        default="", description="Of one of PUBLIC_URLS, with its port where it has one; empty: the incident's, or all"
    )


@flow(name="certificate", validate_parameters=True, timeout_seconds=2 * 3600)
def certificate(request: CertificateRequest = CertificateRequest()) -> list[str]:
    """Have a public address show a certificate that browsers and programs accept.

    Symptom: clients fail with `certificate has expired` or `hostname mismatch`; or it is good for a few days only, so nobody
    has renewed it. Railway renews by itself, as long as the DNS leads there.

    Diagnosis: what the address shows, by TLS, as any client sees it; whether it is a domain of Railway's, one of yours at
    Railway, or neither; for one of yours whether Railway has verified it, how its certificate is, and each record that the DNS
    must have, with what it has.

    Remedy: where the DNS is right, have Railway issue a new certificate, once, and wait for it: the address shows it within
    minutes. Where the DNS is not right the record to set is named: that is for whoever has the domain.

    When not to: where TLS ends before Railway (a CDN, a proxy of yours) the certificate is theirs: renew it there, and see that
    it lets Railway's through. CAA records that do not name Let's Encrypt keep every new certificate back. Authorities issue
    five a week for one name: do not ask again and again.

    Args:
        request: which address.
    Returns: how it ended, a line for each address.
    Raises:
        NotHealed: a person is needed; names the record to set, or who renews it.
        SettingsError: nobody watches such an address.
    """
    stack = Stack.load()
    targets = Targets.from_settings(stack.settings)
    place = environment_if_any(stack.settings)
    with ExitStack() as opened:
        api = opened.enter_context(place.open()) if place else None
        pace = Pace(settle=600, look=15)
        return [
            f"{site.host}: {carry_out(Expiring(targets, site, api), request, stack, pace)}" for site in sites(request, targets)
        ]


def sites(request: CertificateRequest, targets: Targets) -> list[PublicUrl]:
    """Choose the addresses.

    Raises:
        SettingsError: there is none of that name.
    """
    patient = request.patient()
    named = request.host or (patient.aspect.removeprefix(_PREFIX) if patient else "")
    secure = [one for one in targets.public if one.url.startswith("https://")]
    found = [one for one in secure if named in ("", one.host)]
    if not found:
        there = ", ".join(one.host for one in secure) or "none"
        raise SettingsError(f"certificate: PUBLIC_URLS has no https address of {named or 'any host'}; there are: {there}")
    return found


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        host: of the address, without port. wrong: what the check of its certificate says.
        domain: as Railway has it, None where it is none of the user's own there. asked: there is a Railway to ask.
        seen: the address showed a certificate, or why it is not accepted.
    """

    host: str
    wrong: Sequence[str]
    domain: CustomDomain | None = None
    asked: bool = True
    seen: bool = True


def decide(known: Known, ladder: Callable[[CustomDomain], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    domain, host = known.domain, known.host
    facts = {"certificate": "; ".join(known.wrong) or "is accepted, and good for long enough"}
    if domain is not None:
        facts["at Railway"] = f"{domain.certificate}, {'verified' if domain.verified else 'not verified'}"
        for one in domain.records:
            facts[f"DNS record {one.name}"] = f"is {one.current or 'missing'}, wanted is {one.required}"
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, f"the certificate of {host} is good", facts)
    if not known.seen:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; heal what is behind it first", facts)
    if domain is None:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {_elsewhere(known)}", facts)
    lacking = [one for one in domain.records if not one.right]
    if lacking:
        one = lacking[0]
        todo = f"set the DNS record of {one.name} to {one.required} (it is {one.current or 'missing'}), then run this again"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {todo}", facts)
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, ladder(domain))


def _elsewhere(known: Known) -> str:
    if known.host.endswith(OF_RAILWAY):
        return "it is Railway's own, which it renews itself: see status.railway.com, then ask its support"
    if not known.asked:
        return "there is no token of Railway's API: see the domain's settings in its dashboard"
    return f"{known.host} is no domain of this Railway environment: renew it where TLS ends, as at a CDN or proxy"


@dataclass
class Expiring(Runbook):
    """One address. api: Railway's; None where there is none."""

    targets: Targets
    site: PublicUrl
    api: RailwayApi | None = None
    name: str = "certificate"

    @property
    def service(self) -> str:  # type: ignore[override]  # whose address it is
        """As in `Runbook`."""
        return self.site.service

    @property
    def host(self) -> str:
        """Without the port."""
        return self.site.host.rpartition(":")[0] if ":" in self.site.host else self.site.host

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        found = self._look()
        known = Known(self.host, self._judged(found), asked=self.api is not None, seen=bool(found))
        if self.api is None or not known.wrong:
            return decide(known, lambda _: ())
        return decide(replace(known, domain=self._domain(self.api)), self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: a look by TLS."""
        return self._judged(self._look())

    @property
    def _aspect(self) -> str:
        return f"{_PREFIX}{self.site.host}"

    def _look(self) -> list[Observation]:
        only = Targets(timeout=self.targets.timeout, limits=self.targets.limits, public=(self.site,))
        return [one for one in observe_services(only, {self.service}) if one.aspect == self._aspect]

    def _judged(self, found: Sequence[Observation]) -> list[str]:
        if not found:
            return [f"{self.site.host} does not answer, so nobody sees its certificate"]
        return wrong_with(found, self.service, (self._aspect,))

    def _domain(self, api: RailwayApi) -> CustomDomain | None:
        for there in api.inventory().services.values():
            if any(one.custom and one.domain == self.host for one in there.domains):
                return next((one for one in api.custom_domains(there.service_id) if one.domain == self.host), None)
        return None

    def _ladder(self, domain: CustomDomain) -> tuple[Action, ...]:
        if self.api is None:
            return ()
        return (Issue(self.api, domain),)


@dataclass(frozen=True)
class Issue(Action):
    """Has Railway issue a new certificate; one that is being issued already is waited for."""

    api: RailwayApi
    domain: CustomDomain

    def describe(self) -> str:
        """As in `Action`."""
        if self.domain.certificate == "ISSUING":
            return f"wait for the certificate of {self.domain.domain}, which Railway is issuing"
        return f"have Railway issue a new certificate for {self.domain.domain}"

    def do(self) -> str:
        """As in `Action`."""
        if self.domain.certificate == "ISSUING":
            return "Railway is at it"
        self.api.issue_certificate(self.domain.id)
        return "Railway was asked; the address shows it within minutes"

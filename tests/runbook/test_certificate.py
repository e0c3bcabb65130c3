"""certificate: a real https server whose certificate runs out, and a domain of the user's own on the sandbox's Railway."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.errors import NotHealed, SettingsError
from blocks.object_store import BackupStore
from blocks.railway import RailwayApi
from blocks.railway_api.domains import CustomDomain, DnsRecord
from flows.health.reach import tls
from flows.health.targets import PublicUrl, Targets
from flows.runbook.catalogue import entries
from flows.runbook.certificate import CertificateRequest, Expiring, Known, decide, sites
from flows.runbook.frame import Verdict
from flows.runbook.heal import Pace
from shared.engines.process import wait_until
from shared.sandbox.blocks import railway_block
from shared.sandbox.public_site import PublicSite
from shared.sandbox.railway_api import RailwayStandIn
from tests.runbook.cases import IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessRuntime

WEEK = Pace(settle=60, longest=60, look=0.1)


class Town:
    """A Railway on which `localhost`, where the site is, is a domain of the user's own."""

    def __init__(self, directory: Path, site: PublicSite) -> None:
        self.site = site
        self.railway = RailwayStandIn(directory / "railway", ProcessRuntime(directory), pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.operator = Operator(self.railway)
        _, service_id = self.operator.service("app:1", name="litellm")
        wanted = {**self.operator.ids, "serviceId": service_id, "domain": "localhost", "targetPort": 4000}
        self.operator.call("customDomainCreate", "{ id }", input=("CustomDomainCreateInput!", wanted))
        place = railway_block(self.railway)
        self.api: RailwayApi = place.open()

    def close(self) -> None:
        self.api.close()
        self.operator.close()
        self.railway.close()

    def asked(self) -> int:
        """How often a new certificate was asked for."""
        return len(self.railway.received("customDomainIssueCertificate"))

    def runbook(self) -> Expiring:
        target = PublicUrl(self.site.url, "litellm")
        return Expiring(Targets(timeout=20, public=(target,)), target, self.api)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PublicSite]:
    made = PublicSite(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    tls.cache_clear()
    yield made
    made.close()
    tls.cache_clear()


@pytest.fixture
def town(tmp_path: Path, site: PublicSite) -> Iterator[Town]:
    made = Town(tmp_path, site)
    yield made
    made.close()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=WEEK)


def test_a_certificate_that_has_run_out_is_issued_anew_and_seen_by_tls(town: Town, desk: Desk) -> None:
    assert desk.heal(town.runbook()) == "nothing to do"
    town.site.days(-1)
    town.railway.verify("localhost")
    assert desk.heal(town.runbook(), CertificateRequest(dry_run=True)) == "can heal"
    assert town.asked() == 0, "a dry run"

    def renew() -> None:
        wait_until(lambda: town.asked() == 1, timeout=60, what="somebody to ask for a certificate")
        town.site.days(90)

    edge = threading.Thread(target=renew)
    edge.start()
    assert desk.heal(town.runbook()) == "healed"
    edge.join()
    assert desk.asked == []
    assert desk.heal(town.runbook()) == "nothing to do"
    assert town.asked() == 1, "run twice"


def test_a_domain_whose_dns_leads_elsewhere_names_the_record_to_set(town: Town, desk: Desk) -> None:
    town.site.days(-1)
    with pytest.raises(
        NotHealed, match=r"has expired.*set the DNS record of localhost to \w+.up.railway.app \(it is missing\)"
    ):
        desk.heal(town.runbook())
    assert town.asked() == 0


def test_a_certificate_that_does_not_come_is_asked_for_once_and_left_to_a_person(town: Town, desk: Desk) -> None:
    desk.pace = IMPATIENT
    town.site.days(2)
    town.railway.verify("localhost", "ISSUE_FAILED")
    with pytest.raises(NotHealed, match="a person is needed: the certificate of localhost"):
        desk.heal(town.runbook())
    assert town.asked() == 1


def test_one_that_is_being_issued_is_waited_for(town: Town, desk: Desk) -> None:
    desk.pace = IMPATIENT
    town.site.days(-1)
    town.railway.verify("localhost", "ISSUING")
    with pytest.raises(NotHealed, match="wait for the certificate of localhost"):
        desk.heal(town.runbook())
    assert town.asked() == 0


RIGHT = DnsRecord(name="a.example", required="x.up.railway.app", status="DNS_RECORD_STATUS_PROPAGATED")
DOMAIN = CustomDomain(id="1", domain="a.example", certificate="ISSUE_FAILED", verified=True, records=(RIGHT,))


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known("a.example", []), Verdict.NOTHING, "is good"),
        (Known("a.example", ["expired"], DOMAIN), Verdict.HEALS, "expired"),
        (Known("a.example", ["expired"]), Verdict.PERSON, "where TLS ends"),
        (Known("a.up.railway.app", ["expired"]), Verdict.PERSON, "Railway's own"),
        (Known("a.example", ["expired"], asked=False), Verdict.PERSON, "no token of Railway's API"),
        (Known("a.example", ["does not answer"], DOMAIN, seen=False), Verdict.PERSON, "heal what is behind it first"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, lambda _: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_an_incident_says_which_address_is_meant() -> None:
    targets = Targets(
        public=(PublicUrl("https://a.example", "litellm"), PublicUrl("https://b.example:8443"), PublicUrl("http://c"))
    )
    assert [one.host for one in sites(CertificateRequest(), targets)] == ["a.example", "b.example:8443"]
    incident = "stack/public/certificate-b.example:8443/20261126T030000Z"
    assert [one.host for one in sites(CertificateRequest(incident=incident), targets)] == ["b.example:8443"]
    with pytest.raises(SettingsError, match=r"no https address of c; there are: a\.example"):
        sites(CertificateRequest(host="c"), targets)
    asked = ("public", "certificate-b.example:8443")
    answers = [one.name for one in entries() if one.kind != "manual" and one.answers(*asked)]
    assert answers == ["certificate"]

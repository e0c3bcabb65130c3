"""Domains of the user's own at Railway: what their certificates and the DNS are like."""

from __future__ import annotations

from pydantic import AliasPath, Field, field_validator

from blocks.railway_api.deployment import Answered

__all__ = ["CustomDomain", "DnsRecord"]


class DnsRecord(Answered):
    """What the DNS has to say of a custom domain, and says; `right`: Railway sees what it wants."""

    name: str = Field(validation_alias="fqdn")
    zone: str = ""
    current: str = Field(default="", validation_alias="currentValue")
    required: str = Field(validation_alias="requiredValue")
    status: str = ""

    @property
    def right(self) -> bool:
        """Whether Railway sees what it wants there."""
        return self.status == "DNS_RECORD_STATUS_PROPAGATED"


class CustomDomain(Answered):
    """A domain of the user's own.

    Attributes:
        certificate: how its certificate is, as Railway calls it, without what all of them begin with: VALID, ISSUING,
            ISSUE_FAILED, VALIDATING_OWNERSHIP.
        verified: Railway has seen that the domain is the user's. records: that the DNS has to have.
    """

    id: str
    domain: str
    certificate: str = Field(validation_alias=AliasPath("status", "certificateStatus"))
    verified: bool = Field(validation_alias=AliasPath("status", "verified"))
    records: tuple[DnsRecord, ...] = Field(default=(), validation_alias=AliasPath("status", "dnsRecords"))

    @field_validator("certificate")
    @classmethod
    def _short(cls, value: str) -> str:
        return value.removeprefix("CERTIFICATE_STATUS_TYPE_")

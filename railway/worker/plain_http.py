"""Prefect's API over plain HTTP, as in Railway's private network and in the sandbox: no authorities are read for it.

Each client that Prefect opens reads the certificates of all authorities first, also where no connection will ever use TLS:
40 ms of processor time, a hundred times while the deployments are registered, and several times in each flow run. Prefect can
be told to trust another file; this one has a single certificate, whose key was never kept. TLS would be refused with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["no_authorities"]

_NOBODY = Path(__file__).with_name("nobody.crt")
_VARIABLE = "PREFECT_API_SSL_CERT_FILE"


def no_authorities(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what has to be added to an environment; nothing where the API is asked by HTTPS, or the variable is set."""
    plain = environment.get("PREFECT_API_URL", "").startswith("http://")
    return {_VARIABLE: str(_NOBODY)} if plain and _VARIABLE not in environment else {}

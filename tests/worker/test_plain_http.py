"""Prefect's API over plain HTTP needs no certificates; over TLS everything is as Prefect has it."""

from __future__ import annotations

import ssl

from railway.worker.plain_http import no_authorities

VARIABLE = "PREFECT_API_SSL_CERT_FILE"


def test_over_plain_http_prefects_clients_read_one_certificate_that_nobody_can_use() -> None:
    file = no_authorities({"PREFECT_API_URL": "http://prefect-server:4200/api"})[VARIABLE]
    found = ssl.create_default_context(cafile=file).get_ca_certs()
    assert [one["subject"] for one in found] == [((("commonName", "nobody: this key was never kept"),),)]


def test_over_tls_and_where_somebody_chose_a_file_nothing_is_changed() -> None:
    assert no_authorities({"PREFECT_API_URL": "https://api.prefect.cloud/api/accounts/1"}) == {}
    assert no_authorities({}) == {}
    assert no_authorities({"PREFECT_API_URL": "http://prefect-server:4200/api", VARIABLE: "/etc/own.pem"}) == {}

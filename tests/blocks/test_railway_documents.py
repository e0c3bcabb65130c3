"""Every GraphQL document is valid for Railway as it is, and for the sandbox's API."""

from __future__ import annotations

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate

from blocks.railway_api.documents import Document, all_documents
from blocks.railway_api.models import DeploymentStatus, InstanceStatus
from shared.sandbox.stack import ROOT

RAILWAY = ROOT.parent / "shared" / "railway" / "schema.graphql"
SANDBOX = ROOT / "shared" / "sandbox" / "railway_api" / "schema.graphql"
IDS = [one.name for one in all_documents()]


@pytest.fixture(scope="module")
def railway() -> GraphQLSchema:
    """Railway's public schema; its own rules are not held against it: it breaks one of them itself."""
    if not RAILWAY.exists():
        pytest.skip(f"{RAILWAY.name} of Railway is not beside the project")
    return build_schema(RAILWAY.read_text(encoding="utf-8"), assume_valid=True)


@pytest.fixture(scope="module")
def sandbox() -> GraphQLSchema:
    return build_schema(SANDBOX.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", all_documents(), ids=IDS)
def test_railway_takes_the_document(railway: GraphQLSchema, document: Document) -> None:
    assert validate(railway, parse(document.text)) == []


@pytest.mark.parametrize("document", all_documents(), ids=IDS)
def test_the_sandbox_takes_the_document(sandbox: GraphQLSchema, document: Document) -> None:
    assert validate(sandbox, parse(document.text)) == []


def test_each_document_is_one_operation_with_a_name_of_its_own() -> None:
    operations = [parse(one.text).definitions for one in all_documents()]
    assert all(len(found) == 1 for found in operations)
    found = [one for (one,) in operations if isinstance(one, OperationDefinitionNode)]
    assert [one.name.value for one in found if one.name] == IDS
    assert [one.operation.value == "mutation" for one in found] == [one.changes for one in all_documents()]
    assert len(set(IDS)) == len(IDS) > 40


def test_no_document_uses_what_railway_is_going_to_remove(railway: GraphQLSchema) -> None:
    from graphql import NoDeprecatedCustomRule

    for one in all_documents():
        assert validate(railway, parse(one.text), [NoDeprecatedCustomRule]) == [], one.name


def test_no_document_asks_for_decrypted_configuration() -> None:
    assert not [one.name for one in all_documents() if "decryptVariables: true" in one.text or "config(" in one.text]


@pytest.mark.parametrize(
    ("name", "known"), [("DeploymentStatus", DeploymentStatus), ("DeploymentInstanceStatus", InstanceStatus)]
)
def test_every_status_of_railway_is_known(railway: GraphQLSchema, name: str, known: type[DeploymentStatus]) -> None:
    values = getattr(railway.type_map[name], "values", {})
    assert set(values) == {one.value for one in known} - {"UNKNOWN"}

"""What the Railway stand-in knows of the schema is what Railway has, and every document of ours fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    DocumentNode,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    parse,
    validate,
)

from blocks.railway_api.documents import all_documents
from shared.sandbox.environment import ROOT
from shared.sandbox.railway_api import SDL

_RAILWAY = ROOT.parent / "shared" / "railway"
_UNKNOWN = {
    *("DeploymentStatusStream", "RunCronNow", "EnvironmentPreviewChangeSet", "EnvironmentApplyChangeSet"),
    *("EnvironmentChangeSetApply", "VolumeInstancePITRRestore", "Usage", "EstimatedUsage", "HttpLogs"),
    *("TemplateVolumeUpdate", "TemplateRevert", "DockerComposeImport", "WebhookTest", "EnablePitrForHaCluster"),
    *("DisablePitrForHaCluster", "PitrHaClusterReplicationHealth", "VulnRemediationPatchNow", "VulnRemediationDismiss"),
}
"""Operations on Railway that the stand-in does not know, and nothing of ours uses."""


def _read(name: str) -> str:
    path: Path = _RAILWAY / name
    if not path.exists():
        pytest.skip(f"{name} of Railway is not beside the project")
    return path.read_text()


@pytest.fixture(scope="module")
def ours() -> GraphQLSchema:
    return build_schema(SDL)


@pytest.fixture(scope="module")
def theirs() -> GraphQLSchema:
    return build_schema(_read("schema.graphql"), assume_valid=True)


def test_every_type_field_argument_and_value_of_ours_is_railways(ours: GraphQLSchema, theirs: GraphQLSchema) -> None:
    wrong: list[str] = []
    for name, mine in ours.type_map.items():
        real = theirs.type_map.get(name)
        if type(real) is not type(mine):
            wrong.append(name)
        elif isinstance(mine, GraphQLEnumType) and isinstance(real, GraphQLEnumType):
            wrong += [f"{name}.{value}" for value in set(mine.values) ^ set(real.values) if not name.startswith("__")]
        elif isinstance(mine, GraphQLInputObjectType) and isinstance(real, GraphQLInputObjectType):
            known = {one: str(field.type) for one, field in real.fields.items()}
            wrong += [f"{name}.{one}" for one, field in mine.fields.items() if known.get(one) != str(field.type)]
            wrong += [
                f"{name}.{one} is required" for one, kind in known.items() if kind.endswith("!") and one not in mine.fields
            ]
        elif isinstance(mine, GraphQLObjectType | GraphQLInterfaceType):
            assert isinstance(real, GraphQLObjectType | GraphQLInterfaceType)
            wrong += _fields(name, mine, real)
    assert wrong == []


def _fields(
    name: str, mine: GraphQLObjectType | GraphQLInterfaceType, real: GraphQLObjectType | GraphQLInterfaceType
) -> list[str]:
    wrong = []
    for one, field in mine.fields.items():
        known = real.fields.get(one)
        if known is None or str(known.type) != str(field.type):
            wrong.append(f"{name}.{one}")
            continue
        if known.deprecation_reason:
            wrong.append(f"{name}.{one} is deprecated")
        types = {argument: str(value.type) for argument, value in known.args.items()}
        wrong += [
            f"{name}.{one}({argument})" for argument, value in field.args.items() if types.get(argument) != str(value.type)
        ]
        wrong += [
            f"{name}.{one}({argument}) is required"
            for argument, kind in types.items()
            if kind.endswith("!") and argument not in field.args
        ]
    return wrong


def test_every_document_that_this_project_sends_fits(ours: GraphQLSchema) -> None:
    wrong = {one.name: [str(each) for each in validate(ours, parse(one.text))] for one in all_documents()}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_operations_that_a_stack_needs_are_known_but_for_those_that_are_named(ours: GraphQLSchema) -> None:
    operations = [one for one in parse(_read("operations.graphql")).definitions if isinstance(one, OperationDefinitionNode)]
    unknown = {one.name.value for one in operations if one.name and validate(ours, DocumentNode(definitions=(one,)))}
    assert unknown == _UNKNOWN

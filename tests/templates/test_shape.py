"""What a template of the stack says in the place of secrets, and in which order its services start."""

from __future__ import annotations

import re

import pytest

from flows.deploy.present import SETUP
from flows.deploy.setup_service import COMMAND
from flows.templates.shape import ORDER, expression, left_to_people, literals, templated
from railway.secret_values import fits
from railway.stack import Literal, Secret, SecretKind
from railway.variants import build

IMAGE = "ghcr.io/acme/stack-operations:0.1.0"
STACK = build("production", images={"prefect-worker": IMAGE})
DRAWN = re.compile(r'\$\{\{secret\((\d+), "([^"]+)"\)\}\}')


def evaluated(text: str) -> str:
    """As Railway does it: so many characters of the alphabet."""
    return DRAWN.sub(lambda match: (match[2] * int(match[1]))[: int(match[1])], text)


@pytest.mark.parametrize(
    "kind", [SecretKind.PASSWORD, SecretKind.SK, SecretKind.HEX, SecretKind.AUTH_STRING, SecretKind.FERNET]
)
def test_what_railway_makes_up_is_of_the_kind_that_the_service_takes(kind: SecretKind) -> None:
    secret = Secret(kind, 64)
    text = expression(secret)
    assert text is not None
    assert fits(secret, evaluated(text))


def test_no_secret_is_left_in_a_template_and_none_that_railway_could_make_is_asked_for() -> None:
    for service in templated(STACK, IMAGE).services.values():
        assert not any(isinstance(value, Secret) for value in service.variables.values())
    assert left_to_people(STACK) == {
        "prefect-worker": ["BACKUP_RECOVERY_RECIPIENT", "BACKUP_AGE_IDENTITY", "BACKUP_DRILL_RECIPIENT"]
    }


def test_secrets_that_are_optional_and_only_a_person_has_are_no_part_of_it() -> None:
    variables = templated(STACK, IMAGE).services["litellm"].variables
    assert "OPENAI_API_KEY" not in variables
    assert variables["LITELLM_MASTER_KEY"] != Literal("")


def test_roles_and_databases_are_created_by_a_service_that_starts_before_what_needs_them() -> None:
    stack = templated(STACK, IMAGE)
    assert stack.services[SETUP].start_command == COMMAND
    for name in ("litellm", "langfuse-web", "langfuse-worker"):
        assert SETUP in stack.services[name].references()
        assert ORDER in stack.services[name].variables
    order = stack.start_order()
    assert order.index("postgres") < order.index(SETUP) < order.index("litellm")


def test_plain_defaults_are_listed_for_railway_drops_them() -> None:
    assert ("litellm", "PORT", "4000") in literals(STACK)

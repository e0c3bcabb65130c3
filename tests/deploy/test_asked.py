"""What may be asked for, and what is refused before Railway is even spoken to."""

from __future__ import annotations

import pytest

from blocks.errors import GuardRefused, SettingsError
from flows.deploy.asked import Asked, given_secrets, order_of, stack_of, with_worker_image
from flows.deploy.plan import make_plan
from flows.deploy.present import Present
from flows.deploy.refuse import major
from tests.deploy.world import World, faults

IMAGE = "ghcr.io/acme/stack-operations:0.1.0"


@pytest.mark.parametrize("variant", ["starter", "production"])
@pytest.mark.parametrize("langfuse", [3, 4])
@pytest.mark.parametrize("object_store", ["minio", "bucket"])
def test_every_stack_that_can_be_asked_for_is_deployed_from_nothing(variant: str, langfuse: int, object_store: str) -> None:
    asked = Asked.model_validate({"variant": variant, "langfuse": langfuse, "object_store": object_store})
    order = order_of(with_worker_image(asked, IMAGE), "mystack", given={})
    world = World()
    for action in make_plan(order, world.present()).actions:
        world.apply(action)
    assert [one for one in faults(world, order.stack) if "runs as None" not in one] == []
    assert make_plan(order, world.present()).actions == ()


def test_a_stack_that_breaks_a_rule_is_refused_with_the_rule() -> None:
    asked = Asked(images={"litellm": "ghcr.io/berriai/litellm:v1.107.0", "prefect-worker": IMAGE})
    with pytest.raises(GuardRefused, match=r"compromised release.*rule litellm-denied"):
        order_of(asked, "mystack")


def test_an_image_for_a_service_that_there_is_not_is_refused() -> None:
    with pytest.raises(SettingsError, match="valkey"):
        stack_of(Asked(images={"valkey": "valkey:8.1.0"}), "mystack")


def test_without_the_workers_image_it_says_what_to_build() -> None:
    with pytest.raises(SettingsError, match=r"build railway/worker/Dockerfile.*WORKER_IMAGE"):
        order_of(Asked(variant="starter"), "mystack")


def test_the_token_of_the_deploy_is_never_taken_for_the_stack() -> None:
    stack = stack_of(Asked(images={"prefect-worker": IMAGE}), "mystack")
    told = {"RAILWAY_API_TOKEN": "all of the workspace", "OPENAI_API_KEY": "sk-1", "SLACK_CHANNEL": "", "HOME": "/root"}
    assert {name: value.get_secret_value() for name, value in given_secrets(stack, told).items()} == {"OPENAI_API_KEY": "sk-1"}


def test_a_stack_that_is_built_again_gets_the_keys_that_its_backups_were_written_with() -> None:
    stack = stack_of(Asked(images={"prefect-worker": IMAGE}), "mystack")
    old = {"LITELLM_SALT_KEY": "sk-of-before", "ENCRYPTION_KEY": "ab" * 32, "SALT": "s", "BACKUP_SIGNING_KEY": "cd" * 32}
    told = old | {"LITELLM_MASTER_KEY": "sk-another"}
    assert {name: value.get_secret_value() for name, value in given_secrets(stack, told).items()} == old
    with pytest.raises(SettingsError, match=r"ENCRYPTION_KEY in the environment is not 64 hexadecimal digits") as refused:
        given_secrets(stack, {"ENCRYPTION_KEY": "canary"})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("image", "number"),
    [
        ("redis:8.2.1", 8),
        ("ghcr.io/berriai/litellm:v1.102.4", 1),
        ("localhost:5000/redis:7.4@sha256:00", 7),
        ("quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z", None),
        ("redis", None),
    ],
)
def test_the_major_version_is_the_first_number_of_the_tag(image: str, number: int | None) -> None:
    assert major(image) == number


def test_a_plan_for_nothing_there_needs_no_railway() -> None:
    order = order_of(Asked(images={"prefect-worker": IMAGE}), "mystack")
    assert len(make_plan(order, Present()).lines()) > 100

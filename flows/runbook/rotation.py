"""Which secrets of the stack can be changed, how, and which cannot, and why. Values only, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from railway.services.databases import LANGFUSE_DATABASE, LITELLM_DATABASE
from railway.stack import SERVICES, Reference, Secret, SecretKind, start_order

__all__ = ["AFTER", "BEFORE", "IMMUTABLE", "ROTATIONS", "How", "Rotation", "refusal", "users_of"]

BEFORE = "_BEFORE_ROTATION"
"""Of a variable that is being changed: beside it stands its old value under this name, until the new one is proven."""
AFTER = "_GIVEN_UP_BY_ROTATION"
"""Of a variable that is being changed back: beside it stands the new value, until nobody has it any more."""


class How(StrEnum):
    """Where else than in the variables the secret is."""

    VARIABLE = "variable"
    """Nowhere: whoever has it is deployed with the new one."""
    OWNER = "owner"
    """In the service that owns it, which takes it at its start: it is deployed first, then those that use it."""
    POSTGRES = "postgres"
    """A role's password: existing sessions stay, new ones want the new password at once."""
    REDIS = "redis"
    """Redis takes both until the new one is proven."""


@dataclass(frozen=True)
class Rotation:
    """One secret.

    Attributes:
        service, variable: where it stands on Railway. secret: how a new one is made. role: of Postgres, or empty.
        note: what else a person should know, or empty.
    """

    service: str
    variable: str
    how: How
    secret: Secret = field(default_factory=lambda: Secret(SecretKind.PASSWORD))
    role: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """As people ask for it."""
        return f"{self.service}/{self.variable}"


_SK = Secret(SecretKind.SK)
_GIVEN = Secret(SecretKind.GIVEN, what="new key, made at the provider, by the name of a Secret block")
_KNOWN = (
    Rotation("litellm", "LITELLM_MASTER_KEY", How.VARIABLE, _SK, note="virtual keys in LiteLLM's database go on working"),
    Rotation("litellm", "UI_PASSWORD", How.VARIABLE),
    Rotation("litellm", "OPENAI_API_KEY", How.VARIABLE, _GIVEN, note="delete the old one at the provider afterwards"),
    Rotation("litellm", "ANTHROPIC_API_KEY", How.VARIABLE, _GIVEN, note="delete the old one at the provider afterwards"),
    Rotation("langfuse-web", "NEXTAUTH_SECRET", How.VARIABLE, note="everybody has to log in again"),
    Rotation("langfuse-web", "ADMIN_API_KEY", How.VARIABLE, Secret(SecretKind.PASSWORD, 48)),
    Rotation("postgres", "LITELLM_DB_PASSWORD", How.POSTGRES, role=LITELLM_DATABASE),
    Rotation("postgres", "LANGFUSE_DB_PASSWORD", How.POSTGRES, role=LANGFUSE_DATABASE),
    Rotation("postgres", "BACKUP_DB_PASSWORD", How.POSTGRES, role="backup"),
    Rotation("redis", "REDIS_PASSWORD", How.REDIS),
    Rotation("clickhouse", "CLICKHOUSE_PASSWORD", How.OWNER, note="Langfuse waits for ClickHouse meanwhile, about a minute"),
    Rotation("minio", "MINIO_ROOT_PASSWORD", How.OWNER, note="ingestion fails meanwhile, about a minute, and SDKs try again"),
)
ROTATIONS: Mapping[str, Rotation] = {one.name: one for one in _KNOWN}
"""By name."""

_SEALED = "what is stored was sealed with it, and the application has no way to seal it anew: change it and that is lost"
IMMUTABLE: Mapping[str, str] = {
    "LITELLM_SALT_KEY": f"{_SEALED}; if it is known to others, change every provider's key that LiteLLM has stored instead",
    "ENCRYPTION_KEY": f"{_SEALED}; if it is known to others, change the keys that Langfuse has stored instead",
    "SALT": "Langfuse's API keys are hashed with it: make new API keys in Langfuse instead",
    "BACKUP_SIGNING_KEY": "every backup set is signed with it, and a restore refuses a set of another signature",
    "BACKUP_AGE_IDENTITY": "older backup sets open with it only: add the recipient of a second identity beside it, and keep it",
    "BACKUP_RECOVERY_RECIPIENT": "it is public; older backup sets stay encrypted to the old one: keep its secret key",
    "PREFECT_SERVER_ENCRYPTION_KEY": "the secrets of all blocks in Prefect's database are sealed with it",
    "LANGFUSE_INIT_PROJECT_SECRET_KEY": "Langfuse leaves a key that is there alone at its start: make a new API key in its "
    "settings, and give that to LiteLLM",
    "LANGFUSE_INIT_PROJECT_PUBLIC_KEY": "it is public, and goes with its secret key: make a new API key in Langfuse's settings",
    "LANGFUSE_INIT_USER_PASSWORD": "it only makes the first user: change the password in Langfuse",
    "RESTORE_DB_PASSWORD": "this run works as that role: change it by SETUP_POSTGRES_URL and `python -m flows.deploy.setup`",
    "POSTGRES_PASSWORD": "it is the last way in: change it by hand, `ALTER ROLE postgres PASSWORD`, then the variable",
    "GATEWAY_TOKEN": "it is this worker's own: set the variable, and run deploy/on-demand, which deploys the worker last",
    "PREFECT_SERVER_API_AUTH_STRING": "it is this worker's way to its server: set the variable, and run deploy/on-demand",
}
"""Variables that are not changed here, and why."""


def refusal(name: str, variables: Mapping[str, str] | None = None) -> str:
    """Say why a secret is not changed, empty where it can be.

    Args:
        name: `<service>/<variable>`. variables: of the service, as far as they are known.
    """
    variable = name.rpartition("/")[2]
    if variable in IMMUTABLE:
        return f"{variable} is not changed: {IMMUTABLE[variable]}"
    if name not in ROTATIONS:
        return f"there is no secret {name!r} that can be changed here; expected one of {', '.join(ROTATIONS)}"
    if variable == "LITELLM_MASTER_KEY" and variables is not None and not variables.get("LITELLM_SALT_KEY"):
        return f"{variable} is not changed: there is no LITELLM_SALT_KEY, so {_SEALED}"
    return ""


def users_of(service: str, variable: str, unrendered: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name the services that get a variable's value, also through variables of others, in the order in which they start.

    Args:
        unrendered: variables by service, with references as they are written.
    """
    reached = {(service, variable)}
    while True:
        more = {
            (owner, name)
            for owner, variables in unrendered.items()
            for name, text in variables.items()
            if any((other or owner, of) in reached for other, of in Reference(text).names())
        }
        if more <= reached:
            break
        reached |= more
    found = {owner for owner, _ in reached - {(service, variable)}}
    known = start_order(one for one in found if one in SERVICES)
    return [*known, *sorted(found - set(known))]

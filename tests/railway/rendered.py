"""A stack's variables as Railway renders them once a deploy has made the secrets."""

from __future__ import annotations

from railway.secret_values import generate
from railway.stack import Literal, Reference, Secret, SecretKind, Stack

GIVEN = {"BACKUP_RECOVERY_RECIPIENT": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}


def secrets(stack: Stack) -> dict[tuple[str, str], str]:
    """Make every secret, and give what has to be given."""
    made: dict[tuple[str, str], str] = {}
    for service in stack.services.values():
        known: dict[str, str] = {}
        for name, value in service.variables.items():
            if isinstance(value, Secret) and value.kind == SecretKind.GIVEN:
                known[name] = GIVEN.get(name, "")
            elif isinstance(value, Secret):
                known[name] = generate(value, known)
        made |= {(service.name, name): value for name, value in known.items()}
    return made


def rendered(stack: Stack, service: str, made: dict[tuple[str, str], str]) -> dict[str, str]:
    """Return a service's variables without references; what is given and empty is left out."""

    def of(owner: str, name: str) -> str:
        if (owner, name) in made:
            return made[owner, name]
        if name == "RAILWAY_PRIVATE_DOMAIN":
            return f"{owner}.railway.internal"
        if name == "RAILWAY_PUBLIC_DOMAIN":
            return f"{owner}-production.up.railway.app"
        if owner in stack.buckets:
            return f"https://{owner}.example" if name == "ENDPOINT" else f"{owner}-{name.lower()}"
        value = stack.services[owner].variables[name]
        assert isinstance(value, Literal | Reference)
        if isinstance(value, Literal):
            return value.text
        return value.replaced(lambda other, variable: of(other or owner, variable))

    values = {name: of(service, name) for name in stack.services[service].variables}
    return {name: value for name, value in values.items() if value}

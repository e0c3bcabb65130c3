"""Rules about Railway itself: references, ports, endings; and about the two services that operate the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from railway.rules.refusal import Finding, named, render, text_of
from railway.stack import PRODUCTION, STARTER, Literal, Reference, Secret, SecretKind, Stack

__all__ = ["RULES"]

_PROVIDED = frozenset(
    f"RAILWAY_{name}"
    for name in (
        "PRIVATE_DOMAIN",
        "PUBLIC_DOMAIN",
        "PROJECT_NAME",
        "PROJECT_ID",
        "ENVIRONMENT_NAME",
        "ENVIRONMENT_ID",
        "SERVICE_NAME",
        "SERVICE_ID",
        "VOLUME_NAME",
        "VOLUME_MOUNT_PATH",
    )
)
_OF_BUCKETS = frozenset({"BUCKET", "ENDPOINT", "REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"})
_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|SALT|_KEY|AUTH_STRING|IDENTITY)$")
_STORED_LONG = ("postgres", "clickhouse", "redis", "minio", "prefect-server")


@named("complete", "railway/stack.py: STARTER, PRODUCTION")
def complete(stack: Stack) -> Iterator[Finding]:
    """The stack has every service of its variant, and every one that another needs."""
    wanted = set(PRODUCTION if stack.variant == "production" else STARTER)
    if stack.object_store == "bucket":
        wanted.discard("minio")
    for name in sorted(wanted - stack.services.keys()):
        yield "stack", f"{name} is missing from the {stack.variant} variant; add it"
    for service in stack.services.values():
        for name in service.needs:
            if name not in stack.services:
                yield service.name, f"it needs {name}, which the stack has not; add it, or take it from `needs`"


@named("known-reference", "docs.railway.com/variables/reference: what cannot be resolved is empty, and nothing says so")
def known_reference(stack: Stack) -> Iterator[Finding]:
    """Every reference names a variable that there is; a public domain only of a service that has one."""
    for service in stack.services.values():
        for name, value in service.variables.items():
            if isinstance(value, Literal) and "${{" in value.text:
                yield (
                    service.name,
                    f"{name} is a literal with ${{{{ in it, which Railway takes for a reference; make it a Reference",
                )
            if not isinstance(value, Reference):
                continue
            if "${{" in value.replaced(lambda *_: ""):
                yield service.name, f"{name}: {value.text} has a reference that is none; expected ${{{{service.NAME}}}}"
            for of, variable in value.names():
                if wrong := _unknown(stack, of or service.name, variable):
                    yield service.name, f"{name} refers to {of or service.name}.{variable}: {wrong}"


@named(
    "no-circle", "docs.railway.com/deployments/deployment-actions: services that refer to each other in a circle start at once"
)
def no_circle(stack: Stack) -> Iterator[Finding]:
    """Nobody refers to a service that, through others, refers back."""
    graph = {service.name: {*service.references(), *service.needs} for service in stack.services.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [str(name) for name in error.args[1]]
        yield circle[0], f"references go in a circle, {' -> '.join(circle)}; take one away"


@named("no-plain-secret", "this project: a secret is made where the stack is deployed from, never written in a file")
def no_plain_secret(stack: Stack) -> Iterator[Finding]:
    """No secret stands in the definition as text."""
    for service in stack.services.values():
        for name, value in service.variables.items():
            if isinstance(value, Literal) and value.text and _SECRET_NAME.search(name):
                yield service.name, f"{name} is a secret by its name, and a literal; make it a Secret or a Reference to one"


@named("health-port", "docs.railway.com/deployments/healthchecks: Railway asks on PORT")
def health_port(stack: Stack) -> Iterator[Finding]:
    """A service with a health check or a domain has PORT set to what it listens on."""
    for service in stack.services.values():
        if (service.health or service.public) and text_of(service, "PORT") != str(service.port):
            yield service.name, f"PORT is not {service.port}, where it listens, so that Railway asks elsewhere; set it"


@named("time-to-end", "docs.railway.com/deployments/deployment-teardown: 0 s between SIGTERM and SIGKILL by default")
def time_to_end(stack: Stack) -> Iterator[Finding]:
    """What keeps data has time to end in order, and the worker more than it gives its flow runs."""
    for name in _STORED_LONG:
        if name in stack.services and stack.services[name].draining_seconds < 10:
            yield (
                name,
                f"it is killed {stack.services[name].draining_seconds} s after SIGTERM; give it 10 or more draining_seconds",
            )
    worker = stack.services.get("prefect-worker")
    drain = text_of(worker, "WORKER_DRAIN_SECONDS")
    if worker and not (drain.isdecimal() and int(drain) + 30 <= worker.draining_seconds):
        yield (
            "prefect-worker",
            f"draining_seconds is {worker.draining_seconds}; expected WORKER_DRAIN_SECONDS ({drain or 'not set'}) and 30 more",
        )


@named("one-at-a-time", "docs.railway.com/volumes/reference: two deployments never share a volume")
def one_at_a_time(stack: Stack) -> Iterator[Finding]:
    """A service with a volume has no overlap: its old deployment ends before the new one begins."""
    for service in stack.services.values():
        if service.volume and service.overlap_seconds:
            yield service.name, "it has a volume, which two deployments cannot share; set overlap_seconds to 0"


@named("prefect-auth", "docs.prefect.io/v3/advanced/security-settings; an open API hands out block secrets (measured)")
def prefect_auth(stack: Stack) -> Iterator[Finding]:
    """Prefect's server asks for a user and password, and the worker has them."""
    if "prefect-server" not in stack.services:
        return
    asked = stack.services["prefect-server"].variables.get("PREFECT_SERVER_API_AUTH_STRING")
    if not (isinstance(asked, Secret) and asked.kind == SecretKind.AUTH_STRING):
        yield "prefect-server", "PREFECT_SERVER_API_AUTH_STRING is no user:password, so that everybody may use its API; set it"
    elif render(stack, "prefect-worker", "PREFECT_API_AUTH_STRING") != render(
        stack, "prefect-server", "PREFECT_SERVER_API_AUTH_STRING"
    ):
        yield "prefect-worker", "PREFECT_API_AUTH_STRING is not the server's; refer to it"


@named("prefect-apart", "DESIGN: the operator outlives the operated; prefect server/utilities/encryption.py")
def prefect_apart(stack: Stack) -> Iterator[Finding]:
    """Prefect's state is not in the stack's Postgres, and the key of its block secrets not in its database."""
    service = stack.services.get("prefect-server")
    if service is None:
        return
    if others := service.references() & stack.services.keys():
        yield service.name, f"it refers to {', '.join(sorted(others))}, and is down with it; give it a database of its own"
    if "PREFECT_SERVER_ENCRYPTION_KEY" not in service.variables:
        yield (
            service.name,
            "PREFECT_SERVER_ENCRYPTION_KEY is not set, so that its database holds the key to its own secrets; set it",
        )


@named("worker-reaches-prefect", "docs.prefect.io/v3/concepts/settings-and-profiles: PREFECT_API_URL ends in /api")
def worker_reaches_prefect(stack: Stack) -> Iterator[Finding]:
    """The worker asks the server's API on the private network."""
    if not {"prefect-server", "prefect-worker"} <= stack.services.keys():
        return
    wanted = f"http://<prefect-server.RAILWAY_PRIVATE_DOMAIN>:{stack.services['prefect-server'].port}/api"
    if render(stack, "prefect-worker", "PREFECT_API_URL") != wanted:
        expected = wanted.replace("<", "${{").replace(">", "}}")
        yield "prefect-worker", f"PREFECT_API_URL is not the server's API; expected {expected}"


@named(
    "gateway-token", "README, status page and gateway: without a token nothing can be started, and the page says what to set"
)
def gateway_token(stack: Stack) -> Iterator[Finding]:
    """The gateway has a token."""
    worker = stack.services.get("prefect-worker")
    if worker and not isinstance(worker.variables.get("GATEWAY_TOKEN"), Secret):
        yield worker.name, "GATEWAY_TOKEN is no secret; make it Secret(SecretKind.HEX, 64)"


def _unknown(stack: Stack, service: str, variable: str) -> str:
    """Say what is wrong with a reference; empty where nothing is."""
    if service in stack.buckets:
        return "" if variable in _OF_BUCKETS else f"a bucket has {', '.join(sorted(_OF_BUCKETS))}"
    owner = stack.services.get(service)
    if owner is None:
        return "the stack has no such service; name one that it has"
    if variable == "RAILWAY_PUBLIC_DOMAIN" and not owner.public:
        return "it has no public domain; make it public, or use RAILWAY_PRIVATE_DOMAIN"
    if variable in owner.variables or variable in _PROVIDED:
        return ""
    return "that service has no such variable; set it there"


RULES = (
    complete,
    known_reference,
    no_circle,
    no_plain_secret,
    health_port,
    time_to_end,
    one_at_a_time,
    prefect_auth,
    prefect_apart,
    worker_reaches_prefect,
    gateway_token,
)

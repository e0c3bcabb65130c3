"""LiteLLM, with the configuration that ships really loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from railway.services.databases import LITELLM_DATABASE
from railway.services.images import version_of
from railway.stack import SERVICES, Health, LangfuseMajor, Limits, Literal, Reference, Secret, SecretKind, Service

__all__ = ["CONFIGURATION", "LINES", "SDK_FOR_FOUR", "callback", "configuration", "litellm", "reads_configuration"]

CONFIGURATION = Path(__file__).resolve().parents[2] / "shared/litellm/config.yaml"
SDK_FOR_FOUR = (1, 104)
"""From this release on LiteLLM brings a Langfuse SDK whose protocol Langfuse 4 takes; that of older ones loses every trace."""

LINES: Mapping[str, str] = {
    "langfuse": '  success_callback: ["langfuse"]\n  failure_callback: ["langfuse"]\n',
    "langfuse_otel": '  callbacks: ["langfuse_otel"]\n',
}
"""Of `litellm_settings`: how the configuration names a callback. The first are those of the file that ships."""

# An empty host is both IPv4 and IPv6; `::` is IPv6 only where there is one process (Kludex/uvicorn#2945, BerriAI/litellm#9563).
_START = (
    '/bin/sh -c \'umask 077 && printf %s "$LITELLM_CONFIG" > /tmp/litellm.yaml'
    ' && exec litellm --config /tmp/litellm.yaml --host "" --port 4000\''
)


def callback(langfuse_major: LangfuseMajor, version: tuple[int, ...]) -> str:
    """Name the callback that brings traces to this Langfuse.

    Args:
        version: of LiteLLM; empty where it is not known, which is taken for new.
    Returns: `langfuse` or `langfuse_otel`.
    """
    return "langfuse_otel" if langfuse_major == 4 and version and version < SDK_FOR_FOUR else "langfuse"


def configuration(langfuse_major: LangfuseMajor, version: tuple[int, ...]) -> str:
    """Return `shared/litellm/config.yaml`, with the callback that fits.

    Raises:
        ValueError: the file does not name its callbacks the way that this module changes them.
    """
    text = CONFIGURATION.read_text(encoding="utf-8")
    if text.count(LINES["langfuse"]) != 1:
        raise ValueError(f"{CONFIGURATION.name}: expected the two lines of success_callback and failure_callback once")
    return text.replace(LINES["langfuse"], LINES[callback(langfuse_major, version)])


def reads_configuration(start_command: str) -> bool:
    """Say whether a start command writes LITELLM_CONFIG to a file and names that; without, LiteLLM starts with defaults."""
    return "--config" in start_command and "$LITELLM_CONFIG" in start_command


def litellm(image: str, langfuse_major: LangfuseMajor) -> Service:
    """The gateway.

    Args:
        image: with tag, whose version decides on the callback. langfuse_major: of the stack.
    """
    return Service(
        name="litellm",
        title=SERVICES["litellm"].title,
        needs=SERVICES["litellm"].needs,
        image=image,
        port=4000,
        # Never /health, which bills every model. The first start migrates a database, so it may take a while.
        health=Health("/health/readiness", 900),
        variables={
            "LITELLM_MASTER_KEY": Secret(SecretKind.SK),
            "LITELLM_SALT_KEY": Secret(SecretKind.SK, outlives=True),
            "DATABASE_URL": Reference(
                f"postgresql://{LITELLM_DATABASE}:${{{{postgres.LITELLM_DB_PASSWORD}}}}"
                f"@${{{{postgres.RAILWAY_PRIVATE_DOMAIN}}}}:5432/{LITELLM_DATABASE}"
            ),
            "STORE_MODEL_IN_DB": Literal("True"),
            # The older way of migrating compares the whole database with its own schema, and drops what it does not know.
            "USE_V2_MIGRATION_RESOLVER": Literal("True"),
            "REDIS_HOST": Reference("${{redis.RAILWAY_PRIVATE_DOMAIN}}"),
            "REDIS_PORT": Literal("6379"),
            "REDIS_PASSWORD": Reference("${{redis.REDIS_PASSWORD}}"),
            "LANGFUSE_PUBLIC_KEY": Reference("${{langfuse-web.LANGFUSE_INIT_PROJECT_PUBLIC_KEY}}"),
            "LANGFUSE_SECRET_KEY": Reference("${{langfuse-web.LANGFUSE_INIT_PROJECT_SECRET_KEY}}"),
            "LANGFUSE_HOST": Reference("http://${{langfuse-web.RAILWAY_PRIVATE_DOMAIN}}:3000"),
            "LANGFUSE_OTEL_HOST": Reference("http://${{langfuse-web.RAILWAY_PRIVATE_DOMAIN}}:3000"),
            "LITELLM_CONFIG": Literal(configuration(langfuse_major, version_of(image))),
            "LITELLM_MODE": Literal("PRODUCTION"),
            "LITELLM_LOG": Literal("ERROR"),
            "UI_USERNAME": Literal("admin"),
            "UI_PASSWORD": Secret(SecretKind.PASSWORD),
            "OPENAI_API_KEY": Secret(SecretKind.GIVEN, required=False, what="Key of OpenAI, for the models of the file"),
            "ANTHROPIC_API_KEY": Secret(SecretKind.GIVEN, required=False, what="Key of Anthropic, for the models of the file"),
            "PORT": Literal("4000"),
        },
        public=True,
        limits=Limits(2, 4),
        draining_seconds=120,
        overlap_seconds=20,
        start_command=_START,
        about="The gateway that clients talk to; every request is a trace in Langfuse from the first one on.",
        documents=("https://docs.litellm.ai/docs/proxy/prod",),
    )

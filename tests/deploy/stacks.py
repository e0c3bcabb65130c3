"""A small stack with everything that a plan has to think of."""

from __future__ import annotations

from flows.deploy.plan import Order, SetupOrder
from railway.stack import Health, Limits, Literal, Reference, Secret, SecretKind, Service, Stack, Volume

PASSWORD = Secret(SecretKind.PASSWORD)

POSTGRES = Service(
    "postgres",
    "Postgres",
    image="ghcr.io/railwayapp-templates/postgres-ssl:16",
    port=5432,
    volume=Volume("/var/lib/postgresql/data", 10),
    variables={
        "POSTGRES_USER": Literal("postgres"),
        "POSTGRES_PASSWORD": PASSWORD,
        "LITELLM_DB_PASSWORD": PASSWORD,
        "URL": Reference("postgresql://${{POSTGRES_USER}}:${{POSTGRES_PASSWORD}}@postgres.railway.internal"),
    },
    limits=Limits(2, 4),
)
REDIS = Service("redis", "Redis", image="redis:8.2.1", port=6379, start_command="redis-server --appendonly yes")
LITELLM = Service(
    "litellm",
    "LiteLLM",
    ("postgres", "redis"),
    image="ghcr.io/berriai/litellm:v1.109.1",
    port=4000,
    health=Health("/health/readiness", 300),
    variables={
        "DATABASE_URL": Reference("postgresql://litellm:${{postgres.LITELLM_DB_PASSWORD}}@postgres.railway.internal/litellm"),
        "LITELLM_MASTER_KEY": Secret(SecretKind.SK),
        "WORKERS": Literal("2"),
    },
    public=True,
)
WEB = Service(
    "langfuse-web",
    "Langfuse web",
    ("postgres", "redis"),
    image="langfuse/langfuse:3.225.4",
    port=3000,
    variables={
        "NEXTAUTH_URL": Reference("https://${{langfuse-web.RAILWAY_PUBLIC_DOMAIN}}"),
        "ENCRYPTION_KEY": Secret(SecretKind.HEX, 64),
    },
    public=True,
)
LANGFUSE_WORKER = Service(
    "langfuse-worker",
    "Langfuse worker",
    ("postgres", "redis"),
    image="langfuse/langfuse-worker:3.225.4",
    variables={"ENCRYPTION_KEY": Reference("${{langfuse-web.ENCRYPTION_KEY}}")},
)
SERVER = Service("prefect-server", "Prefect server", image="prefecthq/prefect:3.9.1-python3.12", volume=Volume("/data", 5))
WORKER = Service(
    "prefect-worker",
    "Prefect worker",
    ("prefect-server",),
    image="ghcr.io/example/worker:0.1.0",
    variables={"DATABASE": Reference("${{postgres.URL}}"), "DEPTH": Literal("1")},
)
ALL = (WORKER, SERVER, LANGFUSE_WORKER, WEB, LITELLM, REDIS, POSTGRES)
"""On purpose not in the order in which they start."""

STACK = Stack("production", 3, "bucket", {one.name: one for one in ALL}, buckets=("backups",))
SETUP = SetupOrder(
    WORKER.image,
    (("LITELLM_DB_PASSWORD", "${{postgres.LITELLM_DB_PASSWORD}}"), ("SETUP_POSTGRES_URL", "${{postgres.URL}}")),
    "postgres",
    ("postgres",),
)
ORDER = Order(STACK, SETUP)

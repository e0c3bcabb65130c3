"""Stand-ins for langfuse-web and langfuse-worker, which cannot be had without containers.

What matters to an operator is kept (facts: apps.md 2.2 to 2.6), and every store is the real one:

    client -> web: key checked (Postgres, cached in Redis) -> S3 PUT -> job in Redis -> 207 or 200
    worker: takes the job -> reads the blob -> merges -> buffer -> ClickHouse

Health and readiness look at what the originals look at and at nothing else; queues have BullMQ's keys; the worker says that
a job is done before its rows are in ClickHouse, and drops them after three failed inserts; web migrates before it listens and
refuses a newer or a dirty schema. `behave` makes either of them misbehave on demand.

    web = LangfuseWeb(directory / "web", stores, version="3.225.4")
    web.start()
    web.behave(lose_jobs=True)      # answers 207 and queues nothing

Not there: the user interface but for a page to sign in on, prompts, datasets and evaluations.
"""

from shared.sandbox.langfuse_double.configuration import Behaviour, Stores
from shared.sandbox.langfuse_double.process import LangfuseWeb, LangfuseWorker

__all__ = ["Behaviour", "LangfuseWeb", "LangfuseWorker", "Stores"]

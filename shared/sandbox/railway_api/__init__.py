"""What behaves as Railway's GraphQL API on this machine, and really runs the services that it is told to.

    with RailwayStandIn(directory, runtime) as railway:
        ...                                   # post documents to railway.url with railway.token("workspace")
        railway.lose_answer(field="serviceInstanceDeployV2")
        assert railway.running("litellm")

Deployments go their way in threads, in containers of a `Runtime`, with the traps of the real platform: each has a test. It
knows the part of the schema that stands in `schema.graphql` (`SDL`). Not here: builds from source, more than one replica, cron
schedules, sleeping services, subscriptions, clusters of databases.
"""

from shared.sandbox.railway_api.bucket_hosts import BucketHost, EngineBuckets, NamedBuckets
from shared.sandbox.railway_api.endpoint import Received
from shared.sandbox.railway_api.options import DEPLOYMENTS_ONLY, PLANS, Behaviour, Pace, Plan, RateLimit
from shared.sandbox.railway_api.schema import SDL
from shared.sandbox.railway_api.stand_in import RailwayStandIn

__all__ = [
    "DEPLOYMENTS_ONLY",
    "PLANS",
    "SDL",
    "Behaviour",
    "BucketHost",
    "EngineBuckets",
    "NamedBuckets",
    "Pace",
    "Plan",
    "RailwayStandIn",
    "RateLimit",
    "Received",
]

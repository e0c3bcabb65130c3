"""The environment as a whole: patches of its configuration, staged changes, buckets, measurements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from blocks.errors import GuardRefused, RailwayError
from blocks.railway_api import documents
from blocks.railway_api.models import BucketCredentials, Series
from blocks.railway_api.session import Session

__all__ = ["MEASUREMENTS", "EnvironmentCalls"]

MEASUREMENTS = ("CPU_USAGE", "CPU_LIMIT", "MEMORY_USAGE_GB", "MEMORY_LIMIT_GB", "DISK_USAGE_GB")


class EnvironmentCalls(Session):
    """The part of `RailwayApi` about the environment."""

    def patch(self, patch: Mapping[str, Any], message: str) -> str:
        """Change the configuration of several things at once, committed at once: what people have staged is not touched.

        Args:
            patch: as `EnvironmentConfig`, for example `{"volumes": {"<id>": {"sizeMB": 20000}}}`; None deletes a variable.
            message: for the environment's history.
        Returns: the commit's id.
        Raises:
            GuardRefused: a protected service is in it.
        """
        for service_id, change in (patch.get("services") or {}).items():
            if not (change or {}).get("isCreated"):
                self.guard(service_id, "a change of configuration")
            self.graphql.secrets.learn(_values((change or {}).get("variables")))
        self.graphql.secrets.learn(_values(patch.get("sharedVariables")))
        where = {"environmentId": self.place.environment_id}
        return str(self._do(documents.PATCH_COMMIT, patch=dict(patch), commitMessage=message, **where))

    def commit_staged(self, message: str, *, touching: Collection[str], skip_deploys: bool = False) -> str:
        """Commit what is staged, if it is what we have staged ourselves: the commit takes everybody's changes along.

        Args:
            touching: ids of the services and volumes that our own changes are of. Volumes that those services get or lose
                count as named.
        Returns: the commit's id.
        Raises:
            GuardRefused: something else is staged, or nothing.
        """
        staged = self.staged_changes()
        if not staged:
            raise GuardRefused("railway: nothing is staged, so nothing was committed; did the step before end well?")
        if isinstance(touching, str):
            touching = {touching}
        services = staged.get("services") or {}
        mounts = {volume for service in services.values() for volume in ((service or {}).get("volumeMounts") or {})}
        foreign = [name for name in services if name not in touching]
        foreign += [name for name in (staged.get("volumes") or {}) if name not in {*touching, *mounts}]
        foreign += [name for name in staged if name not in ("services", "volumes")]
        if foreign:
            raise GuardRefused(
                f"railway: somebody else's changes are staged too (of {foreign[0]}), so nothing was committed; deploy or "
                "discard them in Railway's dashboard, then run this again"
            )
        for service_id in services:
            self.guard(service_id, "a deployment with staged changes")
        where = {"environmentId": self.place.environment_id}
        return str(self._do(documents.STAGED_COMMIT, commitMessage=message, skipDeploys=skip_deploys, **where))

    def create_bucket(self, name: str, region: str) -> str:
        """Make a private bucket in this environment.

        Args:
            region: sjc, iad, ams or sin; cannot be changed later.
        Returns: its id.
        Raises:
            Uncertain: it may have been made: look in `project().buckets`, and bring it in with `place_bucket`.
        """
        bucket_id = str(self._do(documents.BUCKET_CREATE, input={"projectId": self.place.project_id, "name": name})["id"])
        self.place_bucket(bucket_id, region)
        return bucket_id

    def place_bucket(self, bucket_id: str, region: str) -> None:
        """Bring a bucket of the project into this environment; what `create_bucket` does last."""
        self.patch({"buckets": {bucket_id: {"region": region, "isCreated": True}}}, "bucket of the stack")

    def bucket_credentials(self, bucket_id: str) -> BucketCredentials:
        """Read what a bucket is reached with; the newest pair where there are several.

        Raises:
            RailwayError: there are none (yet): is the bucket in this environment?
        """
        found = self._run(documents.BUCKET_CREDENTIALS, bucketId=bucket_id, **self._where)["bucketS3Credentials"]
        if not found:
            raise RailwayError(
                "railway: the bucket has no credentials in this environment yet; try again, or see `place_bucket`"
            )
        made = BucketCredentials.model_validate(max(found, key=lambda one: str(one.get("createdAt", ""))))
        self.graphql.secrets.learn(
            {"SECRET_KEY": made.secret_key.get_secret_value(), "ACCESS_KEY": made.access_key.get_secret_value()}
        )
        return made

    def metrics(
        self,
        service_id: str | None,
        since: datetime,
        *,
        measurements: Sequence[str] = MEASUREMENTS,
        sample_seconds: int | None = None,
    ) -> list[Series]:
        """Read measurements.

        Args:
            service_id: None for all services, one series each.
            since: begin of the time that is asked for. measurements: values of `MetricMeasurement`.
            sample_seconds: between two values; None lets Railway choose.
        """
        found = self._run(
            documents.METRICS,
            serviceId=service_id,
            startDate=since.isoformat(),
            sampleRateSeconds=sample_seconds,
            measurements=list(measurements),
            groupBy=["SERVICE_ID"],
            **self._where,
        )
        return [Series.model_validate(one) for one in found["metrics"]]


def _values(variables: Any) -> dict[str, str]:
    if not isinstance(variables, Mapping):
        return {}
    return {name: str(one["value"]) for name, one in variables.items() if isinstance(one, Mapping) and one.get("value")}

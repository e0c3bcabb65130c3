"""A person deploys an image that does not run: it ends at once, nobody has it any more, or it is too old for its data."""

from __future__ import annotations

from dataclasses import replace

from blocks.errors import DeploymentFailed
from blocks.image_name import ImageName
from blocks.railway_api.models import ServiceSettings
from blocks.registry import Registries
from shared.engines.process import EngineError
from shared.gameday.causes.cause import Cause
from shared.sandbox.langfuse_double.migrations import newest_migration
from shared.sandbox.railway_runtime.catalogue import Image, version

__all__ = ["BadImage", "ImageOlder", "TagDeleted"]

_BAD = "v1.103.9"
_NEWER = {"3": "3.230.0", "4": "4.20.0"}
"""Releases of Langfuse with one migration more than those that the stack begins with, by the major version."""
_HEALTH_S = 20
"""Seconds in which a bad image has to be healthy, instead of minutes: Railway starts it again and again for so long."""
_TIMEOUT_S = 600.0


class _Deployed(Cause):
    """A person deploys a service, in vain; what served before goes on, for it has a health check and no volume."""

    runbook = "restart-service"
    aspects = ("deployment",)
    _before = ""

    def fail(self) -> None:
        """Deploy it as it is configured, and see it fail.

        Raises:
            EngineError: it did not.
        """
        api, service_id = self.ground.api, self.ground.railway.service_id(self.service)
        seconds = api.inventory().services[self.service].healthcheck_timeout
        api.update_service(service_id, ServiceSettings(healthcheck_timeout=_HEALTH_S))
        try:
            deployment = api.deploy(service_id)
            api.wait_for_deployment(deployment, timeout=_TIMEOUT_S, poll=1.0)
        except DeploymentFailed:
            return
        finally:
            api.update_service(service_id, ServiceSettings(healthcheck_timeout=seconds))
        raise EngineError(f"{self.service} came up with {self.ground.image(self.service)}, expected it to fail")

    def go_back(self) -> None:
        """Configure what was configured in the beginning, and deploy it, unless it runs."""
        newest = self.ground.api.inventory().services[self.service].latest
        if self._before and (newest is None or not newest.status.active or newest.image != self._before):
            self.ground.api.set_image(self.ground.railway.service_id(self.service), self._before)
            self.ground.deploy(self.service)


class BadImage(_Deployed):
    """The image of a release was built on the wrong base: in the place of LiteLLM's program is another one."""

    key, what = "bad-image", f"LiteLLM {_BAD} is deployed, whose program ends at once"
    service = "litellm"

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        self._before = ground.image(self.service)
        sound = ground.runtime.catalogue.find(self._before)
        bad = replace(sound, tags=(_BAD,), programs={"litellm": "python"}, prepare=None)  # which knows no --config
        ground.runtime.catalogue.publish(bad)
        ground.api.set_image(ground.railway.service_id(self.service), f"{sound.repositories[0]}:{_BAD}")
        self.fail()

    def undo(self) -> None:
        """As in `Cause`."""
        if self.left():
            self.go_back()

    def left(self) -> str:
        """As in `Cause`."""
        image = self.ground.image(self.service)
        return f"{image} is configured" if _BAD in image else ""


class TagDeleted(_Deployed):
    """The tag that LiteLLM is configured with is deleted from its registry, and then a person deploys LiteLLM.

    Its image is still there, as it is on Docker Hub for some time: by its digest, which whoever deployed it knows.
    """

    key, what = "tag-deleted", "the tag of LiteLLM's image is deleted from its registry, and it is deployed"
    service = "litellm"
    _image: Image | None = None

    def cause(self) -> None:
        """As in `Cause`."""
        catalogue = self.ground.runtime.catalogue
        self._before = self.ground.image(self.service).partition("@")[0]
        self.go_back()  # an earlier cause's remedy has left a digest, which is there without its tag, too
        self._image = replace(catalogue.find(self._before), tags=(ImageName.parse(self._before).tag,))
        catalogue.untag(self._before)
        self.fail()

    def undo(self) -> None:
        """As in `Cause`."""
        if self._image is not None:
            self.ground.runtime.catalogue.publish(self._image)
            self.go_back()

    def left(self) -> str:
        """As in `Cause`."""
        image = self.ground.image(self.service)
        with Registries(self.ground.registry.url) as registries:
            return "" if registries.exists(ImageName.parse(image)) else f"{image} is configured, which no registry has"


class ImageOlder(_Deployed):
    """Langfuse's web was upgraded, and its release migrated ClickHouse; then a person deploys the older release again.

    There is no way back to that one: it does not know the newest migration. The newer one, which ran before, does.
    """

    key, numbers, what = "older-image", (7,), "an older Langfuse web is deployed than the one that migrated ClickHouse"
    service = "langfuse-web"
    _schema = 0

    def cause(self) -> None:
        """As in `Cause`."""
        ground, service_id = self.ground, self.ground.railway.service_id(self.service)
        self._before, self._schema = ground.image(self.service), self._migration()
        sound = ground.runtime.catalogue.find(self._before)
        newer = _NEWER[version(self._before).partition(".")[0]]
        ground.runtime.catalogue.publish(replace(sound, tags=(newer,)))
        ground.api.set_image(service_id, f"{sound.repositories[0]}:{newer}")
        ground.deploy(self.service)
        ground.api.set_image(service_id, self._before)
        self.fail()

    def undo(self) -> None:
        """As in `Cause`: the migration is taken back by hand, and so is the release."""
        if not self._schema:
            return
        if self._migration() > self._schema:
            sequence = "(SELECT max(sequence) + 1 FROM schema_migrations)"
            self.ground.clickhouse(f"INSERT INTO schema_migrations SELECT {self._schema}, 0, {sequence}")
        self.go_back()

    def left(self) -> str:
        """As in `Cause`."""
        image, schema = self.ground.image(self.service), self._migration()
        known = newest_migration(version(image))
        return f"{image} knows migration {known}, and ClickHouse is at {schema}" if known < schema else ""

    def _migration(self) -> int:
        """The newest migration of ClickHouse."""
        return int(self.ground.clickhouse("SELECT argMax(version, sequence) FROM schema_migrations"))

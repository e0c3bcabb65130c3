"""Do the steps of a plan through Railway's API. Each may be done again: what is there already is left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import SecretStr

from blocks.errors import StackError
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.certainty import certainly
from blocks.railway_api.models import ServiceSettings
from flows.deploy.actions import (
    LIMITS,
    Action,
    Announce,
    Configure,
    CreateBucket,
    CreateDomain,
    CreateService,
    CreateVolume,
    GrowVolume,
    RemoveSetup,
    SetImage,
    SetLimits,
    SetVariables,
)
from flows.deploy.present import DEPLOYED, PENDING, Shape
from railway.secret_values import generate
from railway.stack import Secret, SecretKind

__all__ = ["Hands"]

_MB = 1000


class Hands:
    """Changes one environment, a step at a time.

    Args:
        api: of the environment. given: secrets that only a person has, by the name of their variable.
    """

    def __init__(self, api: RailwayApi, given: Mapping[str, SecretStr] | None = None) -> None:
        self._api = api
        self._given = given or {}
        self._ids: dict[str, str] = {}

    def do(self, action: Action) -> None:
        """Do one step; `Deploy` and `RunSetup` are for `rollout.py` and `setup_service.py`.

        Raises:
            RailwayError: Railway did not do it.
        """
        work: Mapping[type[Action], Callable[..., None]] = {
            RemoveSetup: self._remove_setup,
            Announce: self._announce,
            CreateBucket: self._create_bucket,
            CreateService: self._create_service,
            SetVariables: self._set_variables,
            CreateDomain: self._create_domain,
            CreateVolume: self._create_volume,
            GrowVolume: self._grow_volume,
            Configure: self._configure,
            SetLimits: self._set_limits,
            SetImage: self._set_image,
        }
        work[type(action)](action)

    def id_of(self, name: str) -> str:
        """Return the id of a service.

        Raises:
            StackError: there is none of that name any more.
        """
        if name not in self._ids:
            self._ids = {one.name: one.service_id for one in self._api.inventory().services.values()}
        if name not in self._ids:
            raise StackError(f"{name}: the service is not there any more; who deleted it? deploy again", permanent=True)
        return self._ids[name]

    def forget(self, name: str) -> None:
        """Take note that a service was deleted."""
        self._ids.pop(name, None)

    def create_service(self, name: str) -> None:
        """Create an empty service, unless there is one of that name: Railway would let two be called the same.

        Where the answer is lost the name is looked for before anything is sent again.
        """
        found = self._find(name)
        self._ids[name] = found or certainly(lambda: self._api.create_service(name, None), lambda: self._find(name))

    def _find(self, name: str) -> str | None:
        instance = self._api.inventory().services.get(name)
        return instance.service_id if instance else None

    def _create_service(self, action: CreateService) -> None:
        self.create_service(action.service)

    def _remove_setup(self, action: RemoveSetup) -> None:
        self._api.delete_service(self.id_of(action.service))
        self.forget(action.service)

    def _announce(self, action: Announce) -> None:
        self._api.set_variables(self.id_of(action.service), {DEPLOYED: PENDING})

    def _create_bucket(self, action: CreateBucket) -> None:
        def find() -> str | None:
            return next((one.id for one in self._api.project().buckets if one.name == action.service), None)

        if find() is None:
            certainly(lambda: self._api.create_bucket(action.service, action.region), find)

    def _set_variables(self, action: SetVariables) -> None:
        service = self.id_of(action.service)
        values = {one.name: one.value.text for one in action.assignments if not isinstance(one.value, Secret)}
        secrets = {one.name: one.value for one in action.assignments if isinstance(one.value, Secret)}
        if secrets:
            # Looked at again at the last moment: whoever made one since the plan was made may be using it already.
            there = self._api.variables(service)
            for name, secret in sorted(secrets.items(), key=lambda one: bool(one[1].of)):  # after what it follows from
                if name not in there:
                    values[name] = self._make(name, secret, {**there, **values})
        self._api.set_variables(service, values)

    def _make(self, name: str, secret: Secret, known: Mapping[str, str]) -> str:
        if secret.kind is SecretKind.GIVEN or name in self._given:
            return self._given[name].get_secret_value()
        return generate(secret, known)

    def _create_domain(self, action: CreateDomain) -> None:
        service = self.id_of(action.service)

        def find() -> str | None:
            return next((one.domain for one in self._api.domains(service) if not one.custom), None)

        if find() is None:
            certainly(lambda: self._api.create_domain(service, action.port), find)

    def _create_volume(self, action: CreateVolume) -> None:
        service = self.id_of(action.service)
        if self._volume(action.service) is None:
            certainly(lambda: self._api.create_volume(service, action.mount), lambda: self._volume(action.service))
        volume = self._api.inventory().services[action.service].volume
        if volume is not None and volume.size_mb < action.size_gb * _MB:
            self._resize(volume.volume_id, action.size_gb)

    def _volume(self, name: str) -> str | None:
        instance = self._api.inventory().services.get(name)
        return instance.volume.volume_id if instance and instance.volume else None

    def _grow_volume(self, action: GrowVolume) -> None:
        self._resize(action.volume_id, action.size_gb)

    def _resize(self, volume_id: str, size_gb: float) -> None:
        self._api.patch({"volumes": {volume_id: {"sizeMB": int(size_gb * _MB)}}}, f"volume of {size_gb:g} GB")

    def _configure(self, action: Configure) -> None:
        self._api.update_service(self.id_of(action.service), settings_of(action.before, action.shape))

    def _set_limits(self, action: SetLimits) -> None:
        self._api.limits(self.id_of(action.service), memory_gb=action.shape.memory_gb, vcpus=action.shape.cpus)

    def _set_image(self, action: SetImage) -> None:
        self._api.set_image(self.id_of(action.service), action.image)


_FIELDS = {
    "start_command": "start_command",
    "health_path": "healthcheck_path",
    "health_timeout": "healthcheck_timeout",
    "restart_policy": "restart_policy",
    "restart_retries": "restart_retries",
    "draining_seconds": "draining_seconds",
    "overlap_seconds": "overlap_seconds",
}


def settings_of(before: Shape, shape: Shape) -> ServiceSettings:
    """Return what has to be sent to change one shape into the other; limits are sent otherwise."""
    changed = {name: value for name, value in vars(shape).items() if value != getattr(before, name) and name not in LIMITS}
    return ServiceSettings.model_validate({_FIELDS[name]: value for name, value in changed.items()})

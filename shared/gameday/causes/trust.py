"""The gateway cannot be trusted any more: it lets everybody in, or runs an image that steals keys."""

from __future__ import annotations

import secrets
from dataclasses import replace

from shared.gameday.causes.cause import Cause

__all__ = ["ImageCompromised", "KeyRemoved", "SaltChanged"]

_KEY, _SALT = "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY"
_STOLEN = "1.82.8"
"""Released with a program that sent keys away (facts: apps.md 1.6)."""


class KeyRemoved(Cause):
    """A person deletes the variable of the master key and deploys: LiteLLM starts, and serves whoever asks."""

    key, numbers, what = "open-gateway", (22,), "LiteLLM's master key is deleted and it is deployed: nobody needs a key"
    service, aspects = "litellm", ("authentication",)
    runbook = "unauthenticated-gateway"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.api.delete_variable(self.ground.railway.service_id("litellm"), _KEY)
        self.ground.deploy("litellm")

    def undo(self) -> None:
        """As in `Cause`."""
        service = self.ground.railway.service_id("litellm")
        if _KEY not in self.ground.api.variables(service):
            self.ground.api.set_variables(service, {_KEY: self.ground.environment[_KEY]})
            self.ground.deploy("litellm")

    def left(self) -> str:
        """As in `Cause`."""
        return "a request without a key is served" if self.ground.serves_strangers() else ""


class ImageCompromised(Cause):
    """A person deploys a release of LiteLLM that was taken over."""

    key, numbers, what = "compromised-image", (21,), f"LiteLLM {_STOLEN}, which steals keys, is deployed"
    service, aspects = "litellm", ("version",)
    runbook = "compromised-image"
    _before = ""

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        self._before = ground.image("litellm")
        sound = ground.runtime.catalogue.find(self._before)
        ground.runtime.catalogue.publish(replace(sound, tags=(f"v{_STOLEN}",)))
        ground.api.set_image(ground.railway.service_id("litellm"), f"{sound.repositories[0]}:v{_STOLEN}")
        ground.deploy("litellm")

    def undo(self) -> None:
        """As in `Cause`."""
        if self.left():
            self.ground.api.set_image(self.ground.railway.service_id("litellm"), self._before)
            self.ground.deploy("litellm")

    def left(self) -> str:
        """As in `Cause`."""
        image = self.ground.image("litellm")
        return f"{image} is configured" if _STOLEN in image else ""


class SaltChanged(Cause):
    """A person changes LITELLM_SALT_KEY and deploys; then somebody adds a model, whose key is sealed with the new one.

    Which of the two keys is the right one only a person knows, who puts the old one back.
    """

    key, numbers, what = "key-mismatch", (20,), "LiteLLM's salt key is changed, then a model is added"
    service, aspects = "litellm", ("salt-key",)
    runbook = "key-mismatch"
    hands_over = True
    _before = ""

    def cause(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        self._before = ground.variables("litellm")[_SALT]
        self._add("gameday-before")
        ground.api.set_variables(ground.railway.service_id("litellm"), {_SALT: f"sk-{secrets.token_hex(16)}"})
        ground.deploy("litellm")
        self._add("gameday-after")

    def undo(self) -> None:
        """As in `Cause`."""
        ground = self.ground
        if self._before and ground.variables("litellm")[_SALT] != self._before:
            ground.api.set_variables(ground.railway.service_id("litellm"), {_SALT: self._before})
            ground.deploy("litellm")
        ground.postgres("litellm", 'DELETE FROM "LiteLLM_ProxyModelTable" WHERE model_name LIKE %s', ["gameday-%"])

    def _add(self, name: str) -> None:
        parameters = {"model": "openai/gpt-4o-mini", "api_key": f"sk-{secrets.token_hex(16)}"}
        with self.ground.gateway() as client:
            client.post("/model/new", json={"model_name": name, "litellm_params": parameters}).raise_for_status()

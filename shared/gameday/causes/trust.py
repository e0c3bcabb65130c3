"""The gateway cannot be trusted any more: it lets everybody in, or runs an image that steals keys."""

from __future__ import annotations

from dataclasses import replace

from shared.gameday.causes.cause import Cause

__all__ = ["ImageCompromised", "KeyRemoved"]

_KEY = "LITELLM_MASTER_KEY"
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
        if self.left():
            key = self.ground.environment[_KEY]
            self.ground.api.set_variables(self.ground.railway.service_id("litellm"), {_KEY: key})
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

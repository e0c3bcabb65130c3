"""A service that stands in another's place since an upgrade: what is said of the old one is meant of the new one.

Without this a deploy would lead every consumer back to the server that was replaced, or make an empty one of its name.
"""

from __future__ import annotations

import re
from dataclasses import replace

from blocks.railway_api.api import RailwayApi
from flows.deploy.plan import Order, SetupOrder
from railway.stack import Reference, Service, Stack, Value

__all__ = ["REPLACES", "renamed", "standing_in"]

REPLACES = "STACK_REPLACES"
"""A variable of a service: the one in whose place it stands; empty where it was led back from."""


def standing_in(api: RailwayApi, order: Order) -> Order:
    """Let an order be about the services that stand in for others. Only those of an image of the stack are asked."""
    ours = {_repository(one.image) for one in order.stack.services.values()}
    for name, instance in api.inventory().services.items():
        if name in order.stack.services or not instance.image or _repository(instance.image) not in ours:
            continue
        old = api.variables(instance.service_id).get(REPLACES, "")
        if old in order.stack.services:
            order = renamed(order, old, name, instance.image or order.stack.services[old].image)
    return order


def renamed(order: Order, old: str, new: str, image: str) -> Order:
    """Say of one service what was said of another.

    Args:
        old, new: names. image: that the new one runs: another major version than the old one's.
    """
    services = {(new if name == old else name): _service(one, old, new) for name, one in order.stack.services.items()}
    services[new] = replace(services[new], image=image)
    stack: Stack = replace(order.stack, services=services)
    setup = order.setup
    if setup is not None:
        told = tuple((name, _led(text, old, new)) for name, text in setup.variables)
        home = new if setup.home == old else setup.home
        setup = SetupOrder(setup.image, told, home, tuple(new if one == old else one for one in setup.holders))
    return replace(order, stack=stack, setup=setup, own_service=new if order.own_service == old else order.own_service)


def _repository(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[0]


def _service(service: Service, old: str, new: str) -> Service:
    variables: dict[str, Value] = {
        name: Reference(_led(value.text, old, new)) if isinstance(value, Reference) else value
        for name, value in service.variables.items()
    }
    needs = tuple(new if one == old else one for one in service.needs)
    return replace(service, name=new if service.name == old else service.name, needs=needs, variables=variables)


def _led(text: str, old: str, new: str) -> str:
    text = re.sub(rf"\$\{{\{{\s*{re.escape(old)}\s*\.", f"${{{{{new}.", text)
    return re.sub(rf"(?<![\w.-]){re.escape(old)}\.railway\.internal\b", f"{new}.railway.internal", text)

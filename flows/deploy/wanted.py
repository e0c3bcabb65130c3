"""What a stack wants of one service, in the words of `present.py`."""

from __future__ import annotations

from dataclasses import replace

from flows.deploy.present import Shape
from railway.stack import Service

__all__ = ["overlaid", "shape_of"]


def shape_of(service: Service) -> Shape:
    """Return how a service of the stack runs; None where the stack leaves it to the platform."""
    health, limits = service.health, service.limits
    return Shape(
        start_command=service.start_command,
        health_path=health.path if health else None,
        health_timeout=health.timeout if health else None,
        restart_policy=service.restart,
        draining_seconds=service.draining_seconds,
        overlap_seconds=service.overlap_seconds,
        memory_gb=limits.gigabytes if limits else None,
        cpus=limits.cpus if limits else None,
    )


def overlaid(present: Shape, wanted: Shape) -> Shape:
    """Return how a service will run: what the stack does not say stays as it is."""
    return replace(present, **{name: value for name, value in vars(wanted).items() if value is not None})

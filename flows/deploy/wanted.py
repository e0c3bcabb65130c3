"""What a stack wants of one service, in the words of `present.py`."""

from __future__ import annotations

from dataclasses import replace

from flows.deploy.present import Shape
from railway.stack import Service

__all__ = ["overlaid", "shape_of"]

_GIBI = 0.08
"""2**30 is 7.4 % more than a thousand million."""


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
    """Return how a service will run: what the stack does not say stays as it is, and so does a limit that is as good as right.

    Memory is asked for in GB and answered in bytes, and nobody says whether a GB has 1000 or 1024 MB.
    """
    said = {name: value for name, value in vars(wanted).items() if value is not None}
    if present.memory_gb and wanted.memory_gb and abs(present.memory_gb / wanted.memory_gb - 1) < _GIBI:
        said.pop("memory_gb")
    return replace(present, **said)

"""What a registry has of an image, made of its name alone: an index, a manifest for each kind of machine, a configuration."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["CONFIGURATION", "INDEX", "MANIFEST", "built_at", "configuration", "documents", "index", "manifest", "sha256"]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION = "application/vnd.oci.image.config.v1+json"

_MACHINES = ("amd64", "arm64")
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_DAYS = 300


def index(name: str) -> bytes:
    """The document that a tag leads to.

    Args:
        name: `repository:tag`, as `catalogue` has it.
    """
    entries = []
    for machine in _MACHINES:
        document = manifest(name, machine)
        entries.append({**_descriptor(MANIFEST, document), "platform": {"os": "linux", "architecture": machine}})
    return _document({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


def manifest(name: str, machine: str = "amd64") -> bytes:
    """The document of one kind of machine; its layers are nowhere."""
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "size": 1,
        "digest": sha256(f"{name} {machine}".encode()),
    }
    described = _descriptor(CONFIGURATION, configuration(name, machine))
    return _document({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]})


def configuration(name: str, machine: str = "amd64") -> bytes:
    """What is said of an image; of that, when it was built."""
    return _document({"created": built_at(name).isoformat(), "os": "linux", "architecture": machine, "config": {}})


def built_at(name: str) -> datetime:
    """When an image was built: some day of this year, always the same."""
    return _FIRST + timedelta(days=int(sha256(name.encode())[-8:], 16) % _DAYS)


def sha256(content: bytes) -> str:
    """`sha256:...` of something."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def documents(name: str) -> dict[str, tuple[str, bytes]]:
    """Everything of an image by its digest: media type and content."""
    kinds = [(INDEX, index(name))]
    for machine in _MACHINES:
        kinds += [(MANIFEST, manifest(name, machine)), (CONFIGURATION, configuration(name, machine))]
    return {sha256(content): (kind, content) for kind, content in kinds}


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256(content), "size": len(content)}


def _document(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=3).encode()

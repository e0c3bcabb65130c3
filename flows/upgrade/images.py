"""Which image is meant by what a person typed."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.errors import SettingsError
from flows.upgrade.orders import KINDS, Kind
from railway.services.images import PLACEHOLDER, defaults
from railway.stack import LangfuseMajor

__all__ = ["targets", "with_tag"]


def with_tag(image: str, tag: str) -> str:
    """Return an image's name with another tag; a digest goes with the old one."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}:{tag}"


def targets(kind: Kind, to: str, images: Mapping[str, str], there: Mapping[str, str], major: LangfuseMajor) -> dict[str, str]:
    """Say which image each service of an upgrade is to run.

    Args:
        to: a tag or a whole image, which is that of the first service; empty: what the project ships.
        images: of single services, as given. there: what is configured now. major: of the Langfuse that runs.
    Raises:
        SettingsError: an image is named for a service that has nothing to do with it, or no image is known.
    """
    services = [name for name in KINDS[kind] if name in there]
    strange = sorted(set(images) - set(services) - {"clickhouse" if kind == "langfuse" else ""})
    if strange:
        raise SettingsError(f"upgrade {kind}: an image is given for {strange[0]}, which does not change with it")
    shipped, found = defaults(major), {}
    for name in services:
        if name in images:
            found[name] = images[name]
        elif name == "prefect-worker":  # your own image, of another version than the server's: only by name
            continue
        elif "/" in to or (":" in to and not to.startswith("sha256:")):
            if name != services[0]:
                raise SettingsError(f"upgrade {kind}: give a tag for {' and '.join(services)}, or every image in `images`")
            found[name] = to
        else:
            found[name] = with_tag(there[name], to) if to else shipped[name]
        if PLACEHOLDER in found[name]:
            raise SettingsError(f"upgrade {kind}: {found[name]} is nobody's image; give yours in `images`")
    return found

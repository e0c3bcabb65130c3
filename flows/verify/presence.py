"""Level 0: is every object of a set in the store, with its size. Listings only, nothing is read but the lists of files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from blocks.errors import IntegrityError, ObjectMissing
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.backup.clickhouse_files import load_index
from flows.backup.manifest import ClickHouseDatabase, Manifest
from flows.buckets.packs import read_packs_list, stored_packs
from flows.catalogue import set_prefix

SHOWN = 3


class Listings:
    """What the store lists, asked once for a while: a base is looked at for every set that is a difference to it.

    Args:
        store: where the sets are.
    """

    def __init__(self, store: BackupStore) -> None:
        self.store = store
        self.of_set = lru_cache(maxsize=2)(self._of_set)
        self._packs: Mapping[str, int] | None = None

    def _of_set(self, set_id: str) -> Mapping[str, Listed]:
        """Everything in a set's folder, by key below it."""
        prefix = set_prefix(self.store, set_id)
        return {item.key.removeprefix(prefix): item for item in retrying(lambda: list(self.store.list(prefix)))}

    @property
    def packs(self) -> Mapping[str, int]:
        """Every pack of the stack: id -> stored size in bytes."""
        if self._packs is None:
            self._packs = stored_packs(self.store)
        return self._packs


def absent(listings: Listings, manifest: Manifest) -> list[str]:
    """Name what is missing from a set or has another size, ETag of ClickHouse's files included.

    Returns: a phrase for each object; empty when all is well.
    """
    own = listings.of_set(manifest.id)
    problems = [_problem(item.key, item.bytes, own.get(item.key)) for item in manifest.stored_objects()]
    for component in manifest.clickhouse:
        problems += _clickhouse(listings, manifest, component)
    for bucket in manifest.buckets:
        try:
            packs = read_packs_list(listings.store, set_prefix(listings.store, manifest.id), bucket)
        except (IntegrityError, ObjectMissing) as error:
            problems.append(str(error))
            continue
        problems += [_size_problem(f"pack {pack.id}", pack.bytes, listings.packs.get(pack.id)) for pack in packs.values()]
    return [problem for problem in problems if problem]


def _clickhouse(listings: Listings, manifest: Manifest, component: ClickHouseDatabase) -> list[str]:
    try:
        index = load_index(listings.store, set_prefix(listings.store, manifest.id), component.index)
    except IntegrityError as error:
        return [str(error)]
    problems = []
    for file in index.files:
        found = listings.of_set(component.base or "" if file.in_base else manifest.id).get(component.path + file.name)
        where = f"{component.base}: " if file.in_base else ""
        problems.append(_problem(f"{where}{component.path}{file.name}", file.bytes, found, etag=file.etag))
    return problems


def _problem(name: str, size: int, found: Listed | None, *, etag: str = "") -> str:
    problem = _size_problem(name, size, found.bytes if found else None)
    return problem or (f"{name} was replaced" if etag and found and found.etag != etag else "")


def _size_problem(name: str, size: int, found: int | None) -> str:
    if found is None:
        return f"{name} is missing"
    return f"{name} has {found} bytes instead of {size}" if found != size else ""


def sentence(problems: list[str]) -> str:
    """Say what is wrong in one sentence."""
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return f"{'; '.join(problems[:SHOWN])}{more}"

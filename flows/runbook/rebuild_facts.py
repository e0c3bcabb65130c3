"""What a rebuild needs before anything is made: the set, the keys it was written with, images that can take its data."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import Field, SecretStr

from blocks.errors import IntegrityError, SettingsError
from blocks.keys import BackupKeys
from flows.backup.manifest import Manifest
from flows.catalogue import size
from flows.deploy.plan import Order
from flows.deploy.refuse import major
from flows.journals import Journal
from flows.restore.choose import Parts
from flows.runbook.frame import Action, Diagnosis, Verdict
from railway.stack import Literal

__all__ = ["FOLDER", "KEYS", "Known", "Phase", "RebuildJournal", "decide", "keys_of", "unfit", "with_identity"]

FOLDER = "rebuilds"
KEYS = ("LITELLM_SALT_KEY", "ENCRYPTION_KEY", "SALT", "BACKUP_SIGNING_KEY", "BACKUP_AGE_IDENTITY")
"""What the data and the backups were written with: nobody can make them up."""
_FINGERPRINTED = ("LITELLM_SALT_KEY", "ENCRYPTION_KEY")

Phase = typing.Literal["begun", "made", "deployed", "restored", "restarted", "done"]


class RebuildJournal(Journal):
    """One rebuild.

    Attributes:
        project: its name on Railway. project_id, environment_id: empty until it is made.
        set_id, components: what is restored; no components: everything.
        phase: what has been done. tries: restores that were begun there.
    """

    project: str
    set_id: str
    components: list[str] = Field(default_factory=list)
    project_id: str = ""
    environment_id: str = ""
    phase: Phase = "begun"
    tries: int = 1


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        project: name of the new one. manifest: of the set; None where there is none that can be used: set_error.
        faults: of keys and images, a sentence each. order_error: why the stack cannot be deployed, or empty.
        journal: of a rebuild of this project that was begun before. strangers: services in the project that it did not make.
        alive: services of the old stack that still run. plan: lines of the deploy.
        wrong: what the smoke test says of a rebuild that is done.
    """

    project: str
    manifest: Manifest | None = None
    set_error: str = ""
    faults: Sequence[str] = ()
    order_error: str = ""
    journal: RebuildJournal | None = None
    strangers: Sequence[str] = ()
    alive: Sequence[str] = ()
    plan: Sequence[str] = field(default=())
    wrong: Sequence[str] = ()


def keys_of(environment: Mapping[str, str], known: BackupKeys) -> BackupKeys:
    """Make the keys block of what the environment of this program has: with it the new stack is deployed.

    Args:
        known: as the backups are read here; its recipients and verify key are kept.
    """
    application = {
        name: SecretStr(environment[name]) for name in ("LITELLM_SALT_KEY", "ENCRYPTION_KEY") if environment.get(name)
    }
    identity, signing = environment.get("BACKUP_AGE_IDENTITY"), environment.get("BACKUP_SIGNING_KEY")
    return known.model_copy(
        update={
            "application_keys": application,
            "identity": SecretStr(identity) if identity else None,
            "signing_key": SecretStr(signing) if signing else None,
        }
    )


def with_identity(order: Order, environment: Mapping[str, str]) -> Order:
    """Have the new worker open the old backups: its age identity is the old one, too."""
    identity = environment.get("BACKUP_AGE_IDENTITY", "")
    return replace(order, given={**order.given, "BACKUP_AGE_IDENTITY": SecretStr(identity)}) if identity else order


def unfit(manifest: Manifest, parts: Parts, keys: BackupKeys, environment: Mapping[str, str], order: Order | None) -> list[str]:
    """Say what keeps a set from being restored by the new stack, a sentence each; none where nothing does. Never a value.

    Args:
        parts: of the set, that are wanted. keys: see `keys_of`. order: of the new stack; None where it could not be worded.
    """
    missing = [name for name in KEYS if not environment.get(name)]
    found = [f"{name} is not in the environment of this program: export it from your safe" for name in missing]
    if not found:
        found += _of_keys(manifest, keys)
    return [*found, *(_of_images(parts, order) if order else []), *(_of_buckets(parts, order) if order else [])]


def _of_keys(manifest: Manifest, keys: BackupKeys) -> list[str]:
    if manifest.fingerprints is None:
        return ["the set has no fingerprints of the keys that its data was written with; use one that has"]
    try:
        differing = keys.differing_keys(manifest.fingerprints.wrapped_key, manifest.fingerprints.values)
        signs_alike = manifest.signature is None or keys.sign(b"")[0] == manifest.signature.public_key
    except (IntegrityError, SettingsError) as error:
        return [str(error)]
    found = [f"{name} is not the one that the data of {manifest.id} was written with" for name in differing]
    if not signs_alike:
        found.append(f"BACKUP_SIGNING_KEY is not the one that signed {manifest.id}, so that the new stack would refuse it")
    return found


def _of_images(parts: Parts, order: Order) -> list[str]:
    found = []
    written = [("postgres", one.name, one.server_version) for one in parts.postgres]
    written += [("clickhouse", one.name, one.server_version) for one in parts.clickhouse]
    for service, name, version in written:
        there, was = major(order.stack.services[service].image), major(f"{service}:{version}")
        if there is not None and was is not None and there < was:
            found.append(f"{service} would be {there}, and {name} was written by {was}; give a newer image")
    return sorted(set(found))


def _of_buckets(parts: Parts, order: Order) -> list[str]:
    """A restore puts objects back into a bucket of the same name; Railway names its own buckets anew in each project."""
    value = order.stack.services["prefect-worker"].variables.get("SOURCE_BUCKETS")
    there = value.text if isinstance(value, Literal) else ""
    todo = "leave it out (components: postgres, clickhouse), and bring its objects by the set's RESTORE.md afterwards"
    return [
        f"the set holds the bucket {one.name}, and that of the new stack is {there or 'one that Railway names'}; {todo}"
        for one in parts.buckets
        if one.name != there
    ]


def decide(known: Known, ladder: tuple[Action, ...]) -> Diagnosis:
    """Conclude from what is known.

    Args:
        ladder: the rebuild.
    """
    facts = _facts(known)

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, f"{why}; nothing was made", facts)

    journal = known.journal
    if journal is not None and journal.phase == "done":
        if not known.wrong:
            return Diagnosis(Verdict.NOTHING, f"{known.project} was rebuilt from {journal.set_id}, and works", facts)
        why = f"{known.project} was rebuilt from {journal.set_id}, and does not work: {known.wrong[0]}"
        return Diagnosis(Verdict.PERSON, f"{why}; heal it as any stack, by its own runbooks", facts)
    if known.set_error or known.manifest is None:
        return needs_a_person(known.set_error or "there is no backup set to rebuild from")
    if known.order_error:
        return needs_a_person(known.order_error)
    if known.faults:
        return needs_a_person("; ".join(known.faults))
    if known.alive:
        return needs_a_person(
            f"{', '.join(known.alive)} of the old stack still run: two stacks of one name would copy into the same second "
            "store; heal that one, or stop its services in Railway's dashboard first"
        )
    if known.strangers:
        names = ", ".join(known.strangers[:5])
        return needs_a_person(
            f"the project {known.project} is not empty ({names}), and no rebuild of this stack has made that: name a new one"
        )
    taken = f"{known.manifest.created_at:%Y-%m-%d %H:%M} UTC"
    verb = "goes on" if journal is not None else "begins"
    return Diagnosis(
        Verdict.HEALS, f"the rebuild of {known.project} from {known.manifest.id}, of {taken}, {verb}", facts, ladder
    )


def _facts(known: Known) -> dict[str, str]:
    facts = {"project": known.project, "keys": "; ".join(known.faults) or "those of the set"}
    if (manifest := known.manifest) is not None:
        facts["set"] = f"{manifest.id}, taken {manifest.created_at:%Y-%m-%d %H:%M} UTC, {size(manifest.stored_bytes)} stored"
        named = [one for one in manifest.components if one.kind != "globals"]
        facts["restored are"] = ", ".join(f"{one.kind} {one.name}" for one in named) or "nothing"
        facts["not in the set"] = "; ".join(manifest.not_taken) or "nothing is missing"
    else:
        facts["set"] = known.set_error
    if known.plan:
        made = [one for one in known.plan if one.startswith(("+ service", "+ bucket", ">"))]
        facts["deployed are"] = "; ".join(made)
        facts["settings and secrets"] = (
            f"{len(known.plan) - len(made)} more lines: `python -m flows.deploy --dry-run` shows them"
        )
    journal = known.journal
    facts["begun before"] = f"{journal.id}, {journal.phase}" if journal else "no"
    return facts

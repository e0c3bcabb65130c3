"""Every error this project raises on purpose.

    StackError                      the base: one line for a person, and whether a retry can help
    ├── SettingsError               a setting or parameter is missing or wrong              (permanent)
    ├── ServiceError                a service did not answer, or broke off                  (a retry can help)
    │   ├── AccessDenied            it answered that we may not                             (permanent)
    │   │   └── RailwayDenied       Railway's API did: the token is dead, or of too small a scope    (permanent)
    │   ├── DeliveryFailed          an alert did not reach its channel                      (a retry can help)
    │   └── RailwayError            Railway's API did not answer                            (a retry can help)
    │       ├── RateLimited         it wants us to wait; nothing was changed                (a retry can help)
    │       ├── RailwayRefused      it answered that it will not, and why                   (permanent)
    │       ├── Uncertain           a change may or may not have been made: read the state first     (permanent)
    │       ├── DeploymentFailed    a deployment did not become active, or not what it should be     (permanent)
    │       └── WorkflowFailed      a long operation of the platform failed or did not end  (permanent)
    ├── VersionMismatch             client and server, or dump and target, do not fit       (permanent)
    ├── StoreError                  the object store did not do what was asked              (a retry can help)
    │   ├── ObjectMissing           the object is not there                                 (permanent)
    │   └── ConditionFailed         a conditional write lost: somebody else wrote           (permanent)
    ├── IntegrityError              bytes, hashes, signature or keys are not what was recorded   (permanent)
    ├── LeaseHeld                   another flow holds the stack's lock                     (a retry can help)
    ├── LeaseLost                   our lock ran out or was taken over: stop touching things (permanent)
    ├── ApprovalMissing             a destructive step was not approved                     (permanent)
    ├── GuardRefused                a rule of ours forbids it; nothing was changed          (permanent)
    ├── BackupFailed                no set was committed; what was written is removed       (permanent)
    ├── RestoreRefused              nothing was changed, and why                            (permanent)
    ├── RestoreFailed               a restore broke off; what was stopped was started again (permanent)
    ├── SmokeFailed                 a request through the stack does not work as it should  (permanent)
    ├── NotHealed                   a runbook may not heal it, or could not: a person is needed     (permanent)
    ├── RehearsalFailed             the migrations of an upgrade do not fit the data; nothing live was touched      (permanent)
    ├── UpgradeFailed               an upgrade broke off, and was undone as far as it says  (permanent)
    └── DrillFailed                 the restored data is not what the manifest says         (permanent)

A message says what failed, what was expected and what to do, on one line, and never carries a secret.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessDenied",
    "ApprovalMissing",
    "BackupFailed",
    "ConditionFailed",
    "DeliveryFailed",
    "DeploymentFailed",
    "DrillFailed",
    "GuardRefused",
    "IntegrityError",
    "LeaseHeld",
    "LeaseLost",
    "NotHealed",
    "ObjectMissing",
    "RailwayDenied",
    "RailwayError",
    "RailwayRefused",
    "RateLimited",
    "RehearsalFailed",
    "RestoreFailed",
    "RestoreRefused",
    "ServiceError",
    "SettingsError",
    "SmokeFailed",
    "StackError",
    "StoreError",
    "Uncertain",
    "UpgradeFailed",
    "VersionMismatch",
    "WorkflowFailed",
]


class StackError(Exception):
    """Base of all errors of this project.

    Args:
        message: one line: what failed, what was expected, what to do.
        permanent: True when trying again cannot help; None takes the class's default.
    """

    default_permanent: ClassVar[bool] = True

    def __init__(self, message: str, *, permanent: bool | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.permanent = self.default_permanent if permanent is None else permanent


class SettingsError(StackError):
    """A setting or parameter is missing or wrong."""


class ServiceError(StackError):
    """A service did not answer, or broke off."""

    default_permanent = False


class AccessDenied(ServiceError):
    """The service answered that we may not."""

    default_permanent = True


class DeliveryFailed(ServiceError):
    """An alert did not reach its channel, or may not have.

    Args:
        message, permanent: as of every error here; permanent where the channel refused it and will again.
        retry_after: seconds that the channel asked us to wait, or None.
        uncertain: the request may have arrived all the same: no answer came back.
    """

    def __init__(
        self, message: str, *, permanent: bool | None = None, retry_after: float | None = None, uncertain: bool = False
    ) -> None:
        super().__init__(message, permanent=permanent)
        self.retry_after = retry_after
        self.uncertain = uncertain


class RailwayDenied(AccessDenied):
    """Railway's API answered "Not Authorized": it says the same of a dead token and of one whose scope is too small."""


class RailwayError(ServiceError):
    """Railway's API did not answer, or not as it should."""


class RateLimited(RailwayError):
    """Railway's API wants us to wait. What was asked for was not done.

    Args:
        message, permanent: as of every error here. retry_after: seconds.
    """

    def __init__(self, message: str, *, permanent: bool | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message, permanent=permanent)
        self.retry_after = retry_after


class RailwayRefused(RailwayError):
    """Railway's API answered that it will not do it, and why."""

    default_permanent = True


class Uncertain(RailwayError):
    """A change was sent and its answer was lost: it may have been made. Read the state before it is sent again."""

    default_permanent = True


class DeploymentFailed(RailwayError):
    """A deployment did not become active, or is not what it should be.

    Args:
        message, permanent: as of every error here.
        status: the deployment's, at last. log: its last lines, scrubbed, oldest first; empty where they may not be shown.
    """

    default_permanent = True

    def __init__(self, message: str, *, permanent: bool | None = None, status: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(message, permanent=permanent)
        self.status = status
        self.log = log


class WorkflowFailed(RailwayError):
    """A long operation of the platform (a backup of a volume, its restore) failed, or did not end in time."""

    default_permanent = True


class VersionMismatch(StackError):
    """Client and server, or dump and target, do not fit."""


class StoreError(StackError):
    """The object store did not do what was asked."""

    default_permanent = False


class ObjectMissing(StoreError):
    """The object is not in the store."""

    default_permanent = True


class ConditionFailed(StoreError):
    """A conditional write lost: the object is there already, or is not the one that was read."""

    default_permanent = True


class IntegrityError(StackError):
    """Bytes, hashes, a signature or keys are not what was recorded."""


class LeaseHeld(StackError):
    """Another flow holds the stack's lock."""

    default_permanent = False


class LeaseLost(StackError):
    """Our lock ran out or was taken over; whoever holds it now may be working."""


class ApprovalMissing(StackError):
    """A destructive step was not approved."""


class GuardRefused(StackError):
    """A rule of ours forbids it; nothing was changed."""


class BackupFailed(StackError):
    """No set was committed, and the objects of this run were removed."""


class RestoreRefused(StackError):
    """The restore did not start; nothing was changed."""


class RestoreFailed(StackError):
    """The restore broke off; the message says what state the live data is in."""


class DrillFailed(StackError):
    """The restored data is not what the manifest says."""


class SmokeFailed(StackError):
    """A check of the smoke test, or the whole of it, found something that does not work."""


class NotHealed(StackError):
    """A runbook may not heal it, or has done all it may and the check is still red; the message says what a person is to do."""


class RehearsalFailed(StackError):
    """The migrations of an upgrade failed on a copy of the data; what is live was not touched."""


class UpgradeFailed(StackError):
    """An upgrade broke off; the message says what was undone.

    Args:
        message, permanent: as of every error here. undone: everything is as before, and proven to be well.
    """

    def __init__(self, message: str, *, permanent: bool | None = None, undone: bool = False) -> None:
        super().__init__(message, permanent=permanent)
        self.undone = undone

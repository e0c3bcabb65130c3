"""Where a person goes from an alert."""

from __future__ import annotations

from uuid import UUID

from prefect.settings import get_current_settings
from prefect.utilities.urls import url_for

from blocks.alerts.base import Links
from blocks.settings import Settings

__all__ = ["links_of", "run_url"]


def run_url(run_id: UUID | str) -> str:
    """The page of a flow run in the Prefect UI; empty where there is no UI."""
    return (url_for("flow-run", run_id) or "") if run_id else ""


def links_of(settings: Settings, run_id: UUID | str = "") -> Links:
    """The pages of a stack's alerts.

    Args:
        run_id: of the run that saw it; empty outside a run.
    Returns: the run, the runbooks (each `<step>/runbook` is among the deployments), the status page; empty where there is none.
    """
    ui = (get_current_settings().ui_url or "").rstrip("/")  # derived from the API's URL where PREFECT_UI_URL is not set
    return Links(run=run_url(run_id), runbook=f"{ui}/deployments" if ui else "", status=settings.gateway_url)

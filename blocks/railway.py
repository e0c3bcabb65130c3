"""One environment of a Railway project: where it is, what it is reached with, and what in it is protected.

The API itself is in `blocks/railway_api/` (facts: railway.md).
"""

from __future__ import annotations

from collections.abc import Collection

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.errors import RailwayError, RailwayRefused, SettingsError
from blocks.railway_api import documents
from blocks.railway_api.access import DEFAULT_URL, TokenKind, public_url
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.certainty import certainly
from blocks.railway_api.client import GraphQL
from blocks.railway_api.models import nodes
from blocks.railway_api.redaction import Secrets
from blocks.railway_api.session import Place, only
from blocks.settings import Settings

__all__ = [
    "PROTECTED",
    "RailwayApi",
    "RailwayEnvironment",
    "certainly",
    "create_project",
    "find_project",
    "from_settings",
    "public_url",
]

PROTECTED = ["prefect-server", "prefect-worker"]
"""The operations layer itself: to stop or redeploy it would end the very run that does so."""


class RailwayEnvironment(Block):
    """An environment of a project on Railway.

    Attributes:
        project_id, environment_id: as Railway injects them: RAILWAY_PROJECT_ID, RAILWAY_ENVIRONMENT_ID.
        token, token_kind: what the API is shown. A project token is the smallest, and may often not read the project's names.
        api_url: of the GraphQL endpoint.
        protected: names of services that are not stopped, removed, deployed or changed, unless `open` allows it.
        own_service_id: of the service that this runs in (RAILWAY_SERVICE_ID), which is protected whatever its name.

    Example:
        ```python
        with RailwayEnvironment.load("mystack").open() as api:
            print(api.inventory().services["litellm"].image)
        ```
    """

    _block_type_name = "Railway Environment"
    _block_type_slug = "railway-environment"
    _description = "The Railway environment that a stack runs in."

    project_id: str = Field(min_length=1, description="Id of the project")
    environment_id: str = Field(min_length=1, description="Id of the environment; nothing is ever done without it")
    token: SecretStr = Field(description="Token of the API")
    token_kind: TokenKind = Field(default="project", description="What the token was made as")
    api_url: str = Field(default=DEFAULT_URL, description="The GraphQL endpoint")
    protected: list[str] = Field(default=PROTECTED, description="Services that are not touched unless that is asked for")
    own_service_id: str = Field(default="", description="Id of the service that this runs in; empty outside Railway")

    def open(self, *, allow: Collection[str] = (), patience: float = 60.0) -> RailwayApi:
        """Return the API of this environment; a context manager.

        Args:
            allow: names of protected services that may be changed this time: the last step of a deploy, or from a laptop.
            patience: seconds that a request may wait because of the rate limit.
        Raises:
            SettingsError: an id or the token is missing.
        """
        place = Place(self.project_id, self.environment_id, frozenset(self.protected), self.own_service_id, allowed=only(allow))
        return RailwayApi(GraphQL(self.api_url, self.token, self.token_kind, Secrets(), patience=patience), place)

    def check(self) -> None:
        """See that the token may read the environment.

        Raises:
            RailwayDenied: it may not. RailwayError: the API does not answer. RailwayRefused: there is no such environment.
        """
        with self.open() as api:
            api.inventory()


def create_project(
    token: SecretStr,
    workspace_id: str,
    name: str,
    *,
    token_kind: TokenKind = "workspace",  # noqa: S107 - a kind, no password
    api_url: str = DEFAULT_URL,
    environment: str = "production",
) -> RailwayEnvironment:
    """Make an empty project.

    Args:
        token, token_kind: of a workspace or an account; a project's cannot. workspace_id: whose project it will be.
        name: of the project. environment: name of its first environment.
    Returns: the block of that environment, not saved.
    Raises:
        Uncertain: it may have been made: look in the dashboard before it is tried again.
    """
    if token_kind == "project":  # noqa: S105 - as above
        raise SettingsError("railway: a project's token cannot make projects; give one of the workspace, RAILWAY_API_TOKEN")
    given = {"name": name, "workspaceId": workspace_id, "defaultEnvironmentName": environment}
    with GraphQL(api_url, token, token_kind, Secrets()) as graphql:
        made = graphql.run(documents.PROJECT_CREATE, input=given)["projectCreate"]
    found = [edge["node"]["id"] for edge in made["environments"]["edges"]]
    if len(found) != 1:
        raise RailwayError(f"railway: project {made['id']} has {len(found)} environments, expected one; see it", permanent=True)
    return RailwayEnvironment(
        project_id=made["id"], environment_id=found[0], token=token, token_kind=token_kind, api_url=api_url
    )


def find_project(
    token: SecretStr,
    workspace_id: str,
    name: str,
    *,
    token_kind: TokenKind = "workspace",  # noqa: S107 - a kind, no password
    api_url: str = DEFAULT_URL,
    environment: str = "production",
) -> RailwayEnvironment | None:
    """Look for a project by its name: Railway lets several be called the same, so nobody makes a second one by mistake.

    Args: as of `create_project`.
    Returns: the block of its environment, not saved; None where there is no such project.
    Raises:
        RailwayRefused: there are several of that name, or it has no such environment.
    """
    with GraphQL(api_url, token, token_kind, Secrets()) as graphql:
        found = graphql.run(documents.WORKSPACE_PROJECTS, workspaceId=workspace_id)["workspace"]
    named = [one for one in nodes(found["projects"], "projects") if one["name"] == name]
    if not named:
        return None
    ids = [one["id"] for one in nodes(named[0]["environments"], "environments") if one["name"] == environment]
    if len(named) > 1 or not ids:
        what = f"{len(named)} projects are called {name}" if len(named) > 1 else f"{name} has no environment {environment}"
        raise RailwayRefused(f"railway: {what}, expected one; name it by --project and --environment")
    return RailwayEnvironment(
        project_id=named[0]["id"], environment_id=ids[0], token=token, token_kind=token_kind, api_url=api_url
    )


def from_settings(settings: Settings) -> RailwayEnvironment | None:
    """Make the block of the environment that the settings describe; None where there is no token.

    Raises:
        SettingsError: there is a token, but no project or no environment.
    """
    token = settings.railway_token or settings.railway_api_token
    if token is None:
        return None
    return RailwayEnvironment(
        project_id=settings.require("railway_project_id"),
        environment_id=settings.require("railway_environment_id"),
        token=token,
        token_kind="project" if settings.railway_token else "workspace",
        api_url=settings.railway_api_url,
        own_service_id=settings.railway_service_id,
    )

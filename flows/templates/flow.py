"""Prepare a clean project for Railway's `templateGenerate`, and have the template made."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from blocks.errors import GuardRefused, SettingsError
from blocks.railway import RailwayApi, RailwayEnvironment, from_settings
from blocks.settings import Settings
from flows.approval import approve
from flows.deploy.asked import WORKER, Asked, stack_of, with_worker_image
from flows.deploy.carry_out import Hands
from flows.deploy.look import look
from flows.deploy.plan import Order, Plan, make_plan
from flows.deploy.present import Present
from flows.report import Summary, line
from flows.templates.shape import left_to_people, literals, templated
from railway.rules import refusals
from railway.stack import Stack

__all__ = ["TemplateRequest", "templates"]


class TemplateRequest(Asked):
    """Which stack becomes a template, and in which project it is put together."""

    project_id: str = Field(default="", description="An empty project, made for this; empty: none, and the plan is only shown")
    environment_id: str = Field(default="", description="Its environment")
    generate: bool = Field(default=False, description="Have Railway make the template; needs a token of the workspace")
    dry_run: bool = Field(default=False, description="Only say what would be put there")
    confirm: str = Field(default="", description="The project's id, to go on without asking; empty: the run pauses and asks")


@flow(name="templates", validate_parameters=True, timeout_seconds=3600)
def templates(request: TemplateRequest = TemplateRequest()) -> str:
    """Configure every service of the stack in an empty project, start none, and have a template made of it.

    Args:
        request: which stack, and where.
    Returns: the template's code, empty where none was made.
    Raises:
        GuardRefused: the project is not empty, or a rule of the stack is broken.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    settings = Settings.load()
    asked = with_worker_image(request, settings.worker_image)
    stack = stack_of(asked, settings.stack_name)
    order = order_of(stack, asked)
    if not request.project_id:
        publish(stack, make_plan(order, Present()), "")
        return ""
    with place_of(settings, request).open() as api:
        plan = plan_for(api, order)
        code = ""
        if not request.dry_run:
            if plan.actions:
                approve(request.project_id, request.confirm, described(request.project_id, plan))
            configure(api, plan)
            code = str(api.generate_template()["code"]) if request.generate else ""
    publish(stack, plan, code)
    return code


def order_of(stack: Stack, asked: Asked) -> Order:
    """Word the order: configure everything, deploy nothing.

    Raises:
        SettingsError: no image of the worker. GuardRefused: a rule of the stack is broken.
    """
    if not (image := asked.images.get(WORKER, "")):
        raise SettingsError(f"template: no image of the worker; build railway/worker/Dockerfile, push it, set images.{WORKER}")
    if why := refusals(stack):
        raise GuardRefused("template: nothing was changed: " + "; ".join(map(str, why)))
    return Order(templated(stack, image), deploys=False, bucket_region=asked.bucket_region)


def place_of(settings: Settings, request: TemplateRequest) -> RailwayEnvironment:
    """Return the environment that is prepared; never that of the stack itself.

    Raises:
        GuardRefused: it is the stack's own project.
        SettingsError: there is no token, or no environment is named.
    """
    if request.project_id == settings.railway_project_id:
        raise GuardRefused("template: this is the stack's own project; make an empty one for the template, and name that")
    ids = {"railway_project_id": request.project_id, "railway_environment_id": request.environment_id, "railway_service_id": ""}
    place = from_settings(settings.model_copy(update=ids))
    if place is None:
        raise SettingsError("template: no token; set RAILWAY_API_TOKEN, of the workspace")
    return place.model_copy(update={"protected": []})


def plan_for(api: RailwayApi, order: Order) -> Plan:
    """Work out what is missing in the project.

    Raises:
        GuardRefused: something runs there, or is of somebody else.
    """
    present = look(api, order.stack)
    strange = sorted(set(present.services) - set(order.stack.services))
    alive = sorted(name for name, service in present.services.items() if service.state)
    if strange or alive or present.unmerged:
        what = f"there is {strange[0]}" if strange else f"{alive[0]} was deployed" if alive else "changes wait in the dashboard"
        raise GuardRefused(f"template: {what}, expected an empty project: a template has all that is in it; make a new one")
    return make_plan(order, present)


def configure(api: RailwayApi, plan: Plan) -> None:
    """Do the steps; run again after a fault, it goes on from there."""
    hands = Hands(api)
    for action in plan.actions:
        hands.do(action)
        for said in action.lines():
            line(said)


def described(project: str, plan: Plan) -> str:
    """Say what will happen, for the person who approves it."""
    lines = "\n".join(f"- `{one}`" for one in plan.lines())
    return f"In project {project}, which is deleted when the template is published:\n\n{lines}"


def publish(stack: Stack, plan: Plan, code: str) -> None:
    """Make the artifact `template-<stack>`: what was configured, and what is left to do in Railway's composer."""
    shown = Summary(f"Template of {stack.name}", ("Service", "Variable", "Default to type in again"))
    for name, key, text in literals(stack):
        shown.row(name, key, text.splitlines()[0][:80] if text else "")
    shown.note(f"{len(plan.lines())} changes in the project." + (f" Template {code} was made." if code else ""))
    for name, keys in left_to_people(stack).items():
        shown.note(f"Whoever deploys it types in, on {name}: {', '.join(keys)}.")
    shown.note("Railway drops plain defaults when it generates a template: type those of the table in again, then publish.")
    shown.publish(f"template-{stack.name}")


if __name__ == "__main__":
    templates()

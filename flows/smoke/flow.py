"""The smoke test as a deployment: after each deploy, every hour as a canary, and by hand."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, Field

from blocks.errors import SettingsError, SmokeFailed
from blocks.langfuse import LangfuseWeb
from blocks.litellm import LiteLLMGateway
from blocks.settings import Settings
from flows.documents import optional, required
from flows.report import line
from flows.smoke import checks
from flows.smoke.results import SmokeResult, failures, verdict
from flows.smoke.targets import CheckName, SmokeTargets

__all__ = ["SmokeRequest", "smoke"]


class SmokeRequest(BaseModel):
    """What to test, and with what."""

    model: str = Field(default="", description="Model to pay for, three short answers; empty: SMOKE_MODEL, or the cheapest")
    skip: list[CheckName] = Field(default=[], description="Checks to leave out, for example those of a UI that is switched off")
    dual: bool = Field(default=False, description="Langfuse 4 writes both formats (dual mode): wait 15 minutes for the trace")


# No retries: a completion costs money, and a canary that needs a second try has found something.
@flow(name="smoke", validate_parameters=True, timeout_seconds=1500)
def smoke(request: SmokeRequest = SmokeRequest()) -> list[SmokeResult]:
    """Send a request through the whole stack, and see that it arrives: key, gateway, model, spend, trace.

    Args:
        request: what to test.
    Returns: a result for each check.
    Raises:
        SmokeFailed: at least one check failed; the first of them says what to do.
        SettingsError: the gateway is not set up.
    """
    settings = Settings.load()
    results = checks.run(targets(settings, request), report=_say)
    publish(settings.stack_name, results)
    line(verdict(results))
    if failed := failures(results):
        raise SmokeFailed(f"smoke: {verdict(results)}; {failed[0].detail}")
    return results


def targets(settings: Settings, request: SmokeRequest) -> SmokeTargets:
    """Point the test at the stack of `STACK_NAME`.

    Raises:
        SettingsError: there is no block of its gateway, or no master key in it.
    """
    stack = settings.stack_name
    gateway, langfuse = required(LiteLLMGateway, stack), optional(LangfuseWeb, stack)
    if gateway.master_key is None:
        raise SettingsError("smoke: the gateway's key is not known; set LITELLM_MASTER_KEY and run `python -m blocks`")
    return SmokeTargets(
        litellm_url=gateway.url,
        litellm_key=gateway.master_key,
        langfuse_url=langfuse.url if langfuse else "",
        public_key=langfuse.public_key if langfuse else "",
        secret_key=langfuse.secret_key if langfuse else None,
        model=request.model or settings.smoke_model,
        dual=request.dual,
        skip=tuple(request.skip),
    )


def publish(stack: str, results: list[SmokeResult]) -> None:
    """Make the table artifact `smoke-<stack>`."""
    table = [{"Check": one.name, "Result": one.word, "Seconds": f"{one.seconds:.2f}", "Detail": one.detail} for one in results]
    create_table_artifact(key=f"smoke-{stack}", table=table, description=f"Smoke test of {stack}: {verdict(results)}")


def _say(result: SmokeResult) -> None:
    line(f"{result.name}: {result.word} after {result.seconds:.1f} s: {result.detail}")


if __name__ == "__main__":
    smoke()

"""The automations as values: what fires them, what they do, and whom they never wake."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock, DiscordWebhook, SlackWebhook
from prefect.events.actions import RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture, SequenceTrigger
from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger
from prefect.server.events.schemas.events import ReceivedEvent, RelatedResource, Resource
from pydantic import SecretStr

from blocks.settings import Settings
from flows.automations.server_blocks import server_blocks
from flows.automations.upsert import ALERT_DEPLOYMENT, DISPATCH_DEPLOYMENT, SWEEP_DEPLOYMENT, changes
from flows.automations.wanted import ALERT_FLOW, HINTS, SWEEP_FLOW, Means, tag_of, wanted
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.stack import ROOT

SETTINGS = Settings(stack_name="prod")
ALERT = uuid4()
BLOCKS = {name: uuid4() for name in ("slack", "discord", "pagerduty", "webhook")}
DISPATCH, SWEEP = uuid4(), uuid4()
MEANS = Means(ALERT, BLOCKS, {"pagerduty": uuid4()}, dispatch_deployment=DISPATCH, sweep_deployment=SWEEP)


def by_name(settings: Settings = SETTINGS, means: Means = MEANS) -> dict[str, AutomationCore]:
    return {one.name.removeprefix(f"{settings.stack_name}: "): one for one in wanted(settings, means)}


def fires(name: str, event: str, *, flow: str, pool: str | None = "ops", settings: Settings = SETTINGS) -> bool:
    """Whether an event of a flow run is covered by an automation's trigger, as the server itself decides it."""
    trigger = by_name(settings)[name].trigger
    related = [
        {"prefect.resource.id": f"prefect.flow.{uuid4()}", "prefect.resource.role": "flow", "prefect.resource.name": flow}
    ]
    if pool is not None:
        labels = {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
        related.append({"prefect.resource.id": f"prefect.work-pool.{uuid4()}", **labels})
    occurred = ReceivedEvent(
        occurred="2026-11-24T03:00:00Z",
        event=event,
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{uuid4()}"}),
        related=[RelatedResource(one) for one in related],
        id=uuid4(),
    )
    return ServerTrigger.model_validate(trigger.model_dump(mode="json")).covers(occurred)


@pytest.mark.parametrize("state", ["Failed", "Crashed", "TimedOut", "Late", "Paused", "Suspended"])
@pytest.mark.parametrize("flow", ["backup", "restore", "copy", "whatever-comes-next"])
def test_a_run_of_any_flow_that_ends_badly_is_late_or_waits_for_a_person_is_told(flow: str, state: str) -> None:
    assert fires("failed runs", f"prefect.flow-run.{state}", flow=flow)
    action = by_name()["failed runs"].actions[0]
    assert isinstance(action, RunDeployment)
    assert action.deployment_id == ALERT


@pytest.mark.parametrize("state", ["Completed", "Cancelled", "Running", "AwaitingRetry"])
def test_what_goes_well_or_is_tried_again_is_not_told(state: str) -> None:
    assert not fires("failed runs", f"prefect.flow-run.{state}", flow="backup")


def test_the_alert_flow_never_starts_itself() -> None:
    for state in ("Failed", "Crashed", "TimedOut", "Late"):
        for name, automation in by_name().items():
            if any(isinstance(action, RunDeployment) for action in automation.actions):
                assert not fires(name, f"prefect.flow-run.{state}", flow=ALERT_FLOW)


def test_the_alert_flows_failure_is_told_by_the_server() -> None:
    assert fires("alert flow failed", "prefect.flow-run.Crashed", flow=ALERT_FLOW)
    assert not fires("alert flow failed", "prefect.flow-run.Crashed", flow="backup")
    assert all(isinstance(action, SendNotification) for action in by_name()["alert flow failed"].actions)


def test_a_sweep_that_fails_every_minute_is_told_once_a_cooldown_and_late_ones_are_the_absences_business() -> None:
    assert fires("failed sweeps", "prefect.flow-run.Failed", flow=SWEEP_FLOW)
    assert not fires("failed sweeps", "prefect.flow-run.Late", flow=SWEEP_FLOW)
    assert not fires("failed runs", "prefect.flow-run.Late", flow=SWEEP_FLOW)
    trigger = by_name()["failed sweeps"].trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.within == timedelta(seconds=SETTINGS.alert_cooldown)


@pytest.mark.parametrize("pool", ["another", None])
def test_runs_of_other_pools_or_of_none_are_not_ours(pool: str | None) -> None:
    assert not fires("failed runs", "prefect.flow-run.Failed", flow="backup", pool=pool)


def test_another_work_pool_is_a_setting() -> None:
    settings = Settings(stack_name="prod", work_pool="night")
    for pool in ("ops", "night"):
        told = fires("failed runs", "prefect.flow-run.Failed", flow="backup", pool=pool, settings=settings)
        assert told is (pool == "night")
    texts = [automation.model_dump_json() for automation in by_name(settings).values()]
    assert [text for text in texts if '"ops"' in text or "pool ops" in text] == []
    assert "The work pool night has no worker" in "".join(texts)


def test_absent_sweeps_are_noticed_after_three_intervals_of_any_length() -> None:
    trigger = by_name(Settings(stack_name="prod", check_interval=300))["sweeps stopped"].trigger
    assert isinstance(trigger, EventTrigger)
    assert (trigger.posture, trigger.within) == (Posture.Proactive, timedelta(minutes=15))
    assert trigger.after == trigger.expect == {"prefect.flow-run.Completed"}
    assert trigger.for_each  # without it Prefect opens windows by itself and tells every 15 minutes


def test_what_was_told_of_a_pager_is_ended_there_under_the_same_subject() -> None:
    found = by_name()
    for begin, end in (
        ("no worker", "worker is back"),
        ("sweeps stopped", "sweeps are back"),
        ("no sweeps", "sweeps are back"),
    ):
        subject = next(a.subject for a in found[begin].actions if a.block_document_id == BLOCKS["pagerduty"])  # type: ignore[union-attr]  # notifications
        ends = [a for a in found[end].actions if a.block_document_id == MEANS.end["pagerduty"]]  # type: ignore[union-attr]  # as above
        assert [action.subject for action in ends] == [subject]  # type: ignore[union-attr]  # as above
        assert BLOCKS["pagerduty"] not in [a.block_document_id for a in found[end].actions]  # type: ignore[union-attr]  # as above
        assert isinstance(found[end].trigger, SequenceTrigger)


def test_a_channel_hears_only_of_its_severity() -> None:
    actions = by_name()["alert flow failed"].actions
    assert {a.block_document_id for a in actions} == {BLOCKS["slack"], BLOCKS["discord"], BLOCKS["webhook"]}  # type: ignore[union-attr]  # as above


def test_without_any_channel_there_is_nothing_for_the_server_to_tell() -> None:
    silent = Means(ALERT, dispatch_deployment=DISPATCH, sweep_deployment=SWEEP)
    assert set(by_name(means=silent)) == {"failed runs", "failed sweeps", "incidents", "hints"}


def fires_at(name: str, event: str, resource: str) -> bool:
    """Whether an event about a resource is covered by an automation's trigger, as the server itself decides it."""
    happened = ReceivedEvent(
        occurred="2026-11-24T03:00:00Z", event=event, resource=Resource({"prefect.resource.id": resource}), id=uuid4()
    )
    return ServerTrigger.model_validate(by_name()[name].trigger.model_dump(mode="json")).covers(happened)


def test_an_incident_that_opens_or_gets_worse_is_dispatched_by_its_key_and_nothing_else_is() -> None:
    resource = "stack.prod.service.redis"
    for kind, told in (("opened", True), ("escalated", True), ("reminded", False), ("closed", False)):
        assert fires_at("incidents", f"stack.incident.{kind}", resource) is told
    assert not fires_at("incidents", "stack.incident.opened", "stack.production.service.redis"), "another stack's"
    (action,) = by_name()["incidents"].actions
    assert isinstance(action, RunDeployment)
    assert action.deployment_id == DISPATCH
    assert "event.payload['key']" in json.dumps(action.parameters)


def test_a_hint_that_something_is_wrong_starts_a_sweep_and_not_many_at_once() -> None:
    for event in HINTS:
        assert fires_at("hints", event, "stack.prod.hint.railway")
    assert not fires_at("hints", HINTS[0], "stack.production.hint.railway"), "another stack's"
    assert not fires_at("hints", "stack.railway.deployment.building", "stack.prod.hint.railway")
    (action,) = by_name()["hints"].actions
    assert isinstance(action, RunDeployment)
    assert action.deployment_id == SWEEP
    trigger = by_name()["hints"].trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.within >= timedelta(seconds=30)


def test_names_and_tags_are_the_stacks() -> None:
    assert all(one.name.startswith("prod: ") and one.tags == [tag_of(SETTINGS)] for one in wanted(SETTINGS, MEANS))


def test_the_names_are_those_of_the_deployments() -> None:
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    entrypoints = {one["entrypoint"].rpartition(":")[2] for one in document["deployments"]}
    assert {ALERT_FLOW, SWEEP_FLOW} <= entrypoints
    names = {f"{one['entrypoint'].rpartition(':')[2]}/{one['name']}" for one in document["deployments"]}
    assert {ALERT_DEPLOYMENT, DISPATCH_DEPLOYMENT, SWEEP_DEPLOYMENT} <= names
    assert {one["work_pool"]["name"] for one in document["deployments"]} == {Settings().work_pool}


# --- what is changed -----------------------------------------------------------------------------------------------------


def there(automation: AutomationCore, **changed: object) -> Automation:
    return Automation.model_validate({**automation.model_dump(), **changed, "id": uuid4()})


def test_a_second_run_changes_nothing() -> None:
    target = wanted(SETTINGS, MEANS)
    assert {change.verb for change in changes(target, [], tag_of(SETTINGS), prune=False)} == {"create"}
    present = [there(one) for one in target]
    assert {change.verb for change in changes(target, present, tag_of(SETTINGS), prune=True)} == {"keep"}


def test_what_was_paused_by_hand_stays_so() -> None:
    target = wanted(SETTINGS, MEANS)
    assert changes(target, [there(target[0], enabled=False)], tag_of(SETTINGS), prune=False)[0].verb == "keep"


def test_a_change_is_shown_line_by_line() -> None:
    target = wanted(SETTINGS, MEANS)
    (change, *_) = changes(target, [there(target[0], description="old")], tag_of(SETTINGS), prune=False)
    assert change.verb == "update"
    assert '- "description": "old",' in change.difference


def test_only_ours_are_pruned_and_only_when_asked() -> None:
    target = wanted(SETTINGS, MEANS)
    gone, foreign = there(target[0], name="prod: something old"), there(target[0], name="prod: mine", tags=["x"])
    double = there(target[0])
    present = [*(there(one) for one in target), double, gone, foreign]
    for prune, verb in ((False, "left over"), (True, "delete")):
        last = [change for change in changes(target, present, tag_of(SETTINGS), prune=prune) if change.verb != "keep"]
        assert {(change.verb, change.name) for change in last} == {(verb, gone.name), (verb, double.name)}
        assert [change.present.id for change in last if change.present and change.name == double.name] == [double.id]


# --- blocks --------------------------------------------------------------------------------------------------------------


def test_there_is_a_block_for_each_channel_and_two_for_a_pager() -> None:
    sinks = AlertSinks(port=1)
    made = list(server_blocks(Settings(**{k.lower(): v for k, v in sinks.environment().items()})))  # type: ignore[arg-type]  # text
    assert [(one.channel, one.ends) for one in made] == [
        ("slack", False),
        ("discord", False),
        ("pagerduty", False),
        ("pagerduty", True),
        ("webhook", False),
    ]
    shown = "".join(repr(one) + one.block.model_dump_json() for one in made)
    assert [secret for name, secret in vars(sinks.keys).items() if secret in shown] == []


def test_for_the_real_slack_and_discord_prefects_own_blocks_are_used_whose_errors_show_no_url() -> None:
    settings = Settings(
        slack_webhook_url=SecretStr("https://hooks.slack.com/services/T000/B000/canary77"),
        discord_webhook_url=SecretStr("https://discord.com/api/webhooks/123/canary77"),
    )
    slack, discord = (one.block for one in server_blocks(settings))
    assert isinstance(slack, SlackWebhook)
    assert isinstance(discord, DiscordWebhook)
    assert (discord.webhook_id.get_secret_value(), discord.webhook_token.get_secret_value()) == ("123", "canary77")
    assert "canary77" not in repr(slack) + repr(discord) + json.dumps(slack.model_dump(mode="json"))


def test_the_predecessors_webhook_makes_a_block_by_its_host() -> None:
    kinds = {
        "https://hooks.slack.com/services/T000/B000/x1": [SlackWebhook],
        "https://discord.com/api/webhooks/123/x1": [DiscordWebhook],
        "https://events.pagerduty.com/integration/0123/enqueue": [CustomWebhookNotificationBlock] * 2,
        "https://example.org/hook": [CustomWebhookNotificationBlock],
    }
    for url, expected in kinds.items():
        made = list(server_blocks(Settings(alert_webhook_url=SecretStr(url))))
        assert [type(one.block) for one in made] == expected
        assert {one.channel for one in made} == {"webhook"}

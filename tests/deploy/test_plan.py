"""Plans, applied to a model of Railway: whatever is there, and wherever the program dies, they lead to what the stack says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from flows.deploy.actions import CreateService, Deploy, RunSetup, SetImage, SetVariables
from flows.deploy.plan import Order, Plan, make_plan
from flows.deploy.present import DEPLOYED, PENDING, PresentService, PresentVolume, Shape
from flows.deploy.present import SETUP as SETUP_SERVICE
from railway.stack import Literal, Secret, SecretKind
from tests.deploy.stacks import LITELLM, ORDER, POSTGRES, SETUP, STACK, WORKER
from tests.deploy.world import World, faults

CANARY = "canary-0f3e"
SERVICES = sorted(STACK.services)
SECRETS = [
    (name, key) for name, one in STACK.services.items() for key, value in one.variables.items() if isinstance(value, Secret)
]


def converged() -> World:
    """A world in which the stack was deployed."""
    world = World()
    for action in make_plan(ORDER, world.present()).actions:
        world.apply(action)
    return world


def lines(world: World, order: Order = ORDER) -> list[str]:
    """The plan as a person reads it."""
    return make_plan(order, world.present()).lines()


# --- convergence ---------------------------------------------------------------------------------------------------------


def test_from_nothing_everything_is_created_and_runs() -> None:
    world = converged()
    assert faults(world, STACK) == []
    assert world.made == world.to_make(SETUP)
    assert world.buckets == {"backups"}
    assert set(world.services) == set(STACK.services)


def test_what_is_as_it_should_be_gives_an_empty_plan() -> None:
    assert make_plan(ORDER, converged().present()).actions == ()


def _drift_variable(world: World, name: str, number: int) -> None:
    keys = sorted(key for key in world.services[name].variables if key != DEPLOYED)
    if keys:
        world.assign(name, keys[number % len(keys)], f"drifted {next(world.numbers)}")


def _drop_variable(world: World, name: str, number: int) -> None:
    keys = sorted(key for key in world.services[name].variables if key not in (DEPLOYED, "STACK_SETUP_DONE"))
    if keys:
        world.assign(name, keys[number % len(keys)], None)


def _drift_shape(world: World, name: str, number: int) -> None:
    one = next(world.numbers)
    shapes: list[dict[str, Any]] = [{"memory_gb": float(one)}, {"start_command": f"run {one}"}, {"draining_seconds": 100 + one}]
    world.change(name, shape=replace(world.services[name].shape, **shapes[number % 3]))


def _drift_image(world: World, name: str, _: int) -> None:
    world.change(name, image=f"somebody/elses:{next(world.numbers)}")


def _delete(world: World, name: str, _: int) -> None:
    world.services.pop(name)
    world.runs.pop(name, None)


def _crash(world: World, name: str, number: int) -> None:
    world.change(name, running=False, state=("CRASHED", "SUCCESS", "FAILED")[number % 3])


def _new_volume(world: World, name: str, _: int) -> None:
    if world.services[name].volume:
        world.change(name, volume=None)


def _forget(world: World, name: str, _: int) -> None:
    world.assign(name, DEPLOYED, None)


def _leave_setup(world: World, _name: str, _: int) -> None:
    world.services[SETUP_SERVICE] = PresentService(SETUP_SERVICE, SETUP_SERVICE)


DRIFTS = [_drift_variable, _drop_variable, _drift_shape, _drift_image, _delete, _crash, _new_volume, _forget, _leave_setup]
changes = st.lists(st.tuples(st.sampled_from(DRIFTS), st.sampled_from(SERVICES), st.integers(0, 5), st.booleans()), max_size=6)


def drifted(drifts: list[tuple[Any, str, int, bool]], *, deploys_itself: bool) -> World:
    """A deployed world in which people have changed things, and perhaps deployed them."""
    world = converged()
    world.deploys_itself = deploys_itself
    for drift, name, number, deployed in drifts:
        if name in world.services:
            drift(world, name, number)
            if deployed and name in world.services and drift is not _crash:
                world.start(name)
    return world


@settings(max_examples=40)
@given(drifts=changes, deploys_itself=st.booleans())
def test_whatever_has_drifted_is_brought_back(drifts: list[tuple[Any, str, int, bool]], deploys_itself: bool) -> None:
    world = drifted(drifts, deploys_itself=deploys_itself)
    for action in make_plan(ORDER, world.present()).actions:
        world.apply(action)
    assert faults(world, STACK) == []
    assert world.made == world.to_make(SETUP)
    assert make_plan(ORDER, world.present()).actions == ()


@settings(max_examples=40)
@given(
    drifts=st.one_of(st.none(), changes),
    deaths=st.lists(st.tuples(st.integers(0, 45), st.booleans()), min_size=1, max_size=3),
    deploys_itself=st.booleans(),
)
def test_killed_after_any_steps_and_planned_anew_it_gets_there(
    drifts: list[tuple[Any, str, int, bool]] | None, deaths: list[tuple[int, bool]], deploys_itself: bool
) -> None:
    """Also in the middle of a step, also several times; and the second plan never wants more than the first did."""
    world = World(deploys_itself=deploys_itself) if drifts is None else drifted(drifts, deploys_itself=deploys_itself)
    approved = make_plan(ORDER, world.present()).keys()
    for steps, in_the_middle in deaths:
        actions = make_plan(ORDER, world.present()).actions
        for action in actions[:steps]:
            world.apply(action)
        if in_the_middle and steps < len(actions):
            world.apply(actions[steps], killed=True)
        assert make_plan(ORDER, world.present()).keys() <= approved
    for action in make_plan(ORDER, world.present()).actions:
        world.apply(action)
    assert faults(world, STACK) == []
    assert world.made == world.to_make(SETUP)
    assert make_plan(ORDER, world.present()).actions == ()


# --- secrets -------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(there=st.sets(st.sampled_from(SECRETS)), sealed=st.sets(st.sampled_from(SECRETS)), steps=st.integers(0, 40))
def test_a_secret_that_is_there_is_never_replaced(
    there: set[tuple[str, str]], sealed: set[tuple[str, str]], steps: int
) -> None:
    world = World()
    for name, key in there | sealed:
        world.services.setdefault(name, PresentService(name, name))
        world.assign(name, key, f"{CANARY} {name} {key}")
    world.sealed = set(sealed)
    for action in make_plan(ORDER, world.present()).actions[:steps]:
        world.apply(action)
    for action in make_plan(ORDER, world.present()).actions:
        world.apply(action)
    assert {(name, key): world.services[name].variables[key] for name, key in there | sealed} == {
        (name, key): f"{CANARY} {name} {key}" for name, key in there | sealed
    }
    assert make_plan(ORDER, world.present()).actions == ()


def test_no_value_that_a_person_has_put_there_is_shown() -> None:
    world = converged()
    for name, service in list(world.services.items()):
        for key in list(service.variables):
            if key != DEPLOYED:
                world.assign(name, key, CANARY)
        world.change(name, shape=replace(service.shape, start_command=f"serve --password {CANARY}"))
    plan = make_plan(ORDER, world.present())
    assert plan.actions
    assert CANARY not in "\n".join([*plan.lines(), *plan.notes])
    assert CANARY not in repr(plan)


def test_secrets_are_called_made_here_or_kept() -> None:
    assert "+ litellm.LITELLM_MASTER_KEY = (secret, made here)" in lines(World())
    notes = make_plan(ORDER, converged().present()).notes
    assert "litellm: LITELLM_MASTER_KEY = (secret, kept)" in notes


def test_a_secret_that_only_a_person_has_is_set_when_given_and_told_when_not() -> None:
    key = Secret(SecretKind.GIVEN, required=False, what="of the provider")
    stack = STACK.with_service(LITELLM.with_variables(OPENAI_API_KEY=key))
    without, having = Order(stack, SETUP), Order(stack, SETUP, given={"OPENAI_API_KEY": SecretStr(CANARY)})
    plan = make_plan(without, converged().present())
    assert plan.actions == ()
    assert any("OPENAI_API_KEY (of the provider) is not there" in note for note in plan.notes)
    assert lines(converged(), having) == ["+ litellm.OPENAI_API_KEY = (secret, as given)", "> deploy litellm (changed)"]


# --- what is shown, and converged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drift", "line"),
    [
        (lambda world: world.assign("litellm", "WORKERS", "8"), "~ litellm.WORKERS: 8 -> 2"),
        (lambda world: world.assign("litellm", "WORKERS", "eight"), "~ litellm.WORKERS: (another value) -> 2"),
        (lambda world: world.change("redis", image="redis:7.4.1"), "~ redis: image redis:7.4.1 -> redis:8.2.1"),
        (
            lambda world: world.change("postgres", shape=replace(world.services["postgres"].shape, memory_gb=1.0)),
            "~ postgres: memory (GB) 1.0 -> 4",
        ),
        (
            lambda world: world.change("redis", shape=Shape(start_command=CANARY)),
            "~ redis: start command (another command) -> redis-server --appendonly yes",
        ),
        (lambda world: world.change("litellm", domains=()), "+ litellm: a public address for port 4000"),
        (
            lambda world: world.change("postgres", volume=PresentVolume("v", "/var/lib/postgresql/data", 5)),
            "~ postgres: its volume 5 GB -> 10 GB",
        ),
    ],
)
def test_a_difference_is_one_line(drift: Any, line: str) -> None:
    world = converged()
    drift(world)
    assert line in lines(world)


def test_a_variable_that_the_operator_added_stays_and_is_told() -> None:
    world = converged()
    world.assign("litellm", "MY_OWN", "1")
    plan = make_plan(ORDER, world.present())
    assert plan.actions == ()
    assert "litellm: MY_OWN are not the stack's, and stay as they are" in plan.notes


def test_services_of_somebody_else_are_left_alone() -> None:
    world = World(services={"metabase": PresentService("1", "metabase", image="metabase/metabase:1", state="CRASHED")})
    plan = make_plan(ORDER, world.present())
    assert not any(action.service == "metabase" for action in plan.actions)
    assert "not of this stack, and left alone: metabase" in plan.notes


def test_a_volume_is_never_shrunk() -> None:
    world = converged()
    world.change("postgres", volume=replace(world.services["postgres"].volume or PresentVolume("", "", 0), size_gb=50))
    plan = make_plan(ORDER, world.present())
    assert plan.actions == ()
    assert any("its volume has 50 GB" in note for note in plan.notes)


def test_only_whoever_refers_to_a_changed_variable_is_deployed_too() -> None:
    world = converged()
    stack = STACK.with_service(POSTGRES.with_variables(POSTGRES_USER=Literal("root")))
    deployed = [one.service for one in make_plan(Order(stack, SETUP), world.present()).actions if isinstance(one, Deploy)]
    assert deployed == ["postgres", "prefect-worker"]


# --- order ---------------------------------------------------------------------------------------------------------------


def deploys(plan: Plan) -> list[str]:
    """The services in the order in which they are deployed."""
    return [action.service for action in plan.actions if isinstance(action, Deploy)]


def test_each_comes_after_what_it_needs_and_the_operations_layer_last() -> None:
    order = deploys(make_plan(ORDER, World().present()))
    for name, service in STACK.services.items():
        assert all(order.index(needed) < order.index(name) for needed in service.needs)
    assert order.index("langfuse-web") < order.index("langfuse-worker")
    assert order[-2:] == ["prefect-server", "prefect-worker"]


def test_roles_and_databases_are_made_between_the_databases_and_the_applications() -> None:
    kinds = [
        type(one).__name__ if not isinstance(one, Deploy) else one.service
        for one in make_plan(ORDER, World().present()).actions
    ]
    assert kinds.index("postgres") < kinds.index("RunSetup") < kinds.index("litellm")


def test_all_variables_are_there_before_anything_is_deployed() -> None:
    actions = make_plan(ORDER, World().present()).actions
    first = next(number for number, one in enumerate(actions) if isinstance(one, Deploy | SetImage))
    last = max(number for number, one in enumerate(actions) if isinstance(one, SetVariables | CreateService))
    assert last < first


def test_the_service_that_the_program_runs_in_comes_last_of_all() -> None:
    world = converged()
    for name in STACK.services:
        world.change(name, image="another:1")
    plan = make_plan(replace(ORDER, own_service=WORKER.name), world.present())
    last = plan.actions[-1]
    assert isinstance(last, Deploy)
    assert last.last_word
    assert last.service == WORKER.name


def test_setup_is_not_run_again_unless_asked_for() -> None:
    world = converged()
    assert not any(isinstance(one, RunSetup) for one in make_plan(ORDER, world.present()).actions)
    again = make_plan(replace(ORDER, repeat_setup=True), world.present()).actions
    assert [type(one) for one in again] == [RunSetup]


def test_before_anything_changes_it_is_noted_what_will_have_to_be_deployed() -> None:
    world = converged()
    world.change("postgres", image="ghcr.io/railwayapp-templates/postgres-ssl:16.9")
    world.apply(make_plan(ORDER, world.present()).actions[0])
    assert world.services["postgres"].variables[DEPLOYED] == PENDING


def test_without_deploys_everything_is_configured_and_nothing_started() -> None:
    world = World()
    for action in make_plan(replace(ORDER, deploys=False, setup=None), world.present()).actions:
        world.apply(action)
    assert world.runs == {}
    assert make_plan(replace(ORDER, deploys=False, setup=None), world.present()).actions == ()

"""What is done to LiteLLM's models: compared by name, deployment and fingerprints, never by a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.models.plan import MANAGER, Desired, Present, desired, notes, plan
from flows.models.wanted import SecretSource, WantedModel

KEY = "sk-master"


def wish(name: str = "m", *, key: str = "sk-canary-1", deployment: str = "", **params: Any) -> Desired:
    wanted = WantedModel(
        name=name,
        deployment=deployment,
        litellm_params={"model": "openai/m", **params},
        secrets={"api_key": SecretSource(environment="KEY")},
    )
    return desired(wanted, {"api_key": key}, KEY)


def stored(model: Desired, **seen: Any) -> Present:
    """As LiteLLM shows it: without the secret, with prices of its own."""
    params: Mapping[str, Any] = {**model.wanted.litellm_params, **seen}
    info = {**model.model_info, "id": model.model_id, "db_model": True, "max_tokens": 4096}
    return Present(model.model_id, model.wanted.name, params, info)


def theirs(name: str = "m") -> Present:
    return Present("1", name, {"model": "openai/m"}, {"id": "1", "db_model": False})


def test_what_is_as_it_shall_be_is_left_alone() -> None:
    assert plan([wish()], [stored(wish())], prune=True) == []


def test_what_is_missing_is_created_and_the_secret_only_named_by_where_it_is() -> None:
    (action,) = plan([wish(rpm=5)], [], prune=False)
    assert (action.kind, action.name) == ("create", "m")
    assert action.changes == ("api_key: from environment variable KEY", 'model: "openai/m"', "rpm: 5")
    assert "canary" not in repr(action)


def test_another_secret_is_noticed_without_reading_it_back() -> None:
    (action,) = plan([wish(key="sk-canary-2")], [stored(wish())], prune=False)
    assert (action.kind, action.changes) == ("update", ("api_key: another secret, from environment variable KEY",))
    assert "canary" not in repr(stored(wish()))


def test_a_change_in_the_file_and_one_that_somebody_made_in_litellm_are_both_undone() -> None:
    (in_file,) = plan([wish(rpm=9)], [stored(wish(rpm=5))], prune=False)
    (by_hand,) = plan([wish(rpm=5)], [stored(wish(rpm=5), rpm=7)], prune=False)
    assert (in_file.kind, in_file.changes) == ("update", ("rpm: 5 -> 9",))
    assert (by_hand.kind, by_hand.changes) == ("update", ("rpm: 7 -> 5",))


def test_a_parameter_that_is_gone_takes_a_new_model_in_the_place_of_the_old_one() -> None:
    (action,) = plan([wish()], [stored(wish(rpm=5))], prune=False)
    assert (action.kind, action.changes) == ("replace", ("rpm: gone",))
    assert action.desired is not None
    assert action.present is not None
    assert action.desired.model_id != action.present.model_id


def test_a_replacement_that_was_interrupted_is_completed() -> None:
    (action,) = plan([wish()], [stored(wish(rpm=5)), stored(wish())], prune=False)
    assert (action.kind, action.present) == ("delete", stored(wish(rpm=5)))


def test_what_is_no_longer_in_the_file_is_deleted_only_when_asked() -> None:
    there = [stored(wish()), stored(wish("old"))]
    assert plan([wish()], there, prune=False) == []
    assert notes([wish()], there, prune=False) == ["old: ours, and no longer in the file; `prune` would delete it"]
    (action,) = plan([wish()], there, prune=True)
    assert (action.kind, action.name) == ("delete", "old")


def test_models_of_others_are_never_touched_and_a_shared_name_is_said() -> None:
    assert [action.kind for action in plan([wish()], [theirs(), theirs("x")], prune=True)] == ["create"]
    assert notes([wish()], [theirs()], prune=True) == [
        "m: LiteLLM has one that is not from this file, too; the two share the requests"
    ]
    assert not Present("1", "m", {}, {"managed_by": MANAGER, "db_model": False}).is_ours


def test_two_deployments_of_one_name_are_two_models() -> None:
    actions = plan([wish(), wish(deployment="eu")], [stored(wish(deployment="eu"))], prune=True)
    assert [(action.kind, action.name) for action in actions] == [("create", "m")]


def test_a_model_has_the_same_id_each_time_so_that_asking_twice_makes_one() -> None:
    assert wish().model_id == wish(key="sk-other").model_id
    assert len({wish().model_id, wish("n").model_id, wish(deployment="eu").model_id, wish(rpm=1).model_id}) == 4


def test_fingerprints_tell_nothing_to_who_has_not_the_key() -> None:
    first = wish()
    assert first.marks == wish().marks
    assert desired(first.wanted, {"api_key": "sk-canary-1"}, "another key").marks["api_key"] != first.marks["api_key"]
    assert "canary" not in str(first.model_info)

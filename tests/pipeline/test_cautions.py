from __future__ import annotations

from pathlib import Path

import pytest

from interalign.conversations.environment import EnvironmentRoles, environment_played_by
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.llm.backends import LocalConfig, ModelConfig, ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.pipeline.cautions import of_the_judge, of_the_noise
from interalign.pipeline.setting import Setting, setting_of
from interalign.pipeline.tested import Tested as Model


def served(model: str, port: int = 8000) -> EndpointConfig:
    return EndpointConfig(base_url=f"http://localhost:{port}/v1", model=model)


def setting(name: str, model: ModelConfig) -> Setting:
    return setting_of(name, Model(name, model), BenchmarkConfig(), "v1", {}, 7)


def judged_by(judge: ModelConfig, user: ModelConfig | None = None) -> EnvironmentRoles:
    roles = environment_played_by(judge)
    played = environment_played_by(user or served("user"))
    return roles.model_copy(update={"user": played.user, "inducer": played.inducer})


def test_a_judge_of_its_own_replies_is_told_with_the_models_it_is() -> None:
    settings = [setting("mine", served("m")), setting("again", served("m", 9000)), setting("other", served("m-large"))]
    (told,) = of_the_judge(judged_by(served("m")), settings)
    assert "The judge m is itself among the tested models (mine, again)" in told and "--judge" in told


def test_a_judge_that_plays_the_user_is_told() -> None:
    (told,) = of_the_judge(judged_by(served("m"), served("m")), [setting("mine", served("other"))])
    assert "The judge m plays the user as well" in told
    for same in (served("m").model_copy(update={"timeout_s": 7.0}), served("m", 9000)):
        (told,) = of_the_judge(judged_by(served("m"), same), [setting("mine", served("other"))])
        assert "The judge m plays the user as well" in told
    assert not of_the_judge(judged_by(served("m"), served("m-large")), [])
    both = of_the_judge(environment_played_by(served("m")), [setting("mine", served("m"))])
    assert len(both) == 2


@pytest.mark.parametrize(
    "roles",
    [
        None,
        EnvironmentRoles(),
        judged_by(served("another")),
        environment_played_by(ScriptedConfig()),
        EnvironmentRoles(judge=judged_by(served("another")).judge),
    ],
    ids=["rules", "rules of both", "another", "scripts", "another, of rules"],
)
def test_nothing_is_said_of_rules_scripts_and_other_judges(roles: EnvironmentRoles | None) -> None:
    assert of_the_judge(roles, [setting("mine", served("m")), setting("script", ScriptedConfig())]) == ()


def test_a_model_in_this_process_is_known_by_its_weights(tmp_path: Path) -> None:
    for name, weights in (("one", b"same"), ("copy", b"same"), ("other", b"else")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    one, copy, other = (LocalConfig(checkpoint=str(tmp_path / name)) for name in ("one", "copy", "other"))
    told = of_the_judge(judged_by(one), [setting("copy", copy), setting("other", other)])
    assert len(told) == 1 and "(copy)" in told[0]


def test_what_a_budget_left_of_the_noise_is_counted() -> None:
    some, none = of_the_noise([("mine", 3, 10), ("yours", 0, 1)])
    assert some.startswith("The noise floor of mine rests on 3 of 10 repeats") and "a larger budget" in some
    assert none.startswith("The noise floor of yours was not measured: none of its 1 repeat")

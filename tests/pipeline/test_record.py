from __future__ import annotations

from pathlib import Path

from interalign.conversations.environment import EnvironmentRoles, JudgeConfig, environment_played_by
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.llm.backends import ScriptedConfig
from interalign.pipeline.record import prompts_used

SCRIPTED = environment_played_by(ScriptedConfig())


def hashes(**judge: object) -> dict[str, str]:
    assert SCRIPTED.judge is not None
    settings = {**dict(SCRIPTED.judge), **judge}
    roles = EnvironmentRoles.model_validate({**dict(SCRIPTED), "judge": JudgeConfig.model_validate(settings)})
    return prompts_used(BenchmarkConfig(roles=roles))


def test_rules_are_told_nothing() -> None:
    assert prompts_used(BenchmarkConfig()) == {}


def test_what_each_role_is_told_is_recorded() -> None:
    assert {"user", "inducer", "judge", "grader", "notes", "repair"} <= hashes().keys()


def test_a_judge_in_free_text_is_asked_again_in_words_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Rate the reply. End with 'Rating: N'.", encoding="utf-8")
    assert "repair_free" not in hashes()
    # Whatever its instructions are, since the text by which it is asked again is not among them.
    assert "repair_free" in hashes(free_text=True)
    assert "repair_free" in hashes(free_text=True, prompt=str(own))
    assert "repair_free" not in hashes(prompt=str(own))


def test_another_prompt_has_another_hash(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Rate the reply.", encoding="utf-8")
    plain, changed = hashes(), hashes(prompt=str(own))
    assert {role for role, value in plain.items() if changed[role] != value} == {"judge"}

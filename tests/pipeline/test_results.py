from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from interalign.conversations.environment import JudgeConfig, environment_played_by
from interalign.errors import InputError
from interalign.evaluation.benchmark import EnvironmentRoles
from interalign.evaluation.cases import card
from interalign.llm.backends import LocalConfig, ScriptedConfig
from interalign.llm.model import Sampling
from interalign.pipeline.record import Evaluation
from interalign.pipeline.rescore import rescore
from interalign.pipeline.results import JudgedAnew, judge_in_words, read_results, read_summary, rescored_at
from interalign.pipeline.work import Work
from interalign.recipe import Recipe, load_recipe
from interalign.roles.llm.player import RoleConfig, WeightedModel, instructions, prompt_hashes
from interalign.run import RunFolder, write_json, write_jsonl
from tests.evaluation.finished import CONFIG, MODELS, SEED, finished_run, people, played

DRAWN = "temperature 0.7, top_p 0.9, max_tokens 60"


def rescored_run(run: RunFolder, name: str, judge: str) -> Path:
    """A rescoring beside the evaluation, with the evaluation's verdicts."""
    folder = rescored_at(run) / name
    for model, source in MODELS.items():
        write_jsonl(folder / model / "verdicts.jsonl", played(source))
    write_json(folder / "summary.json", read_summary(run.root))
    write_json(folder / "judge.json", JudgedAnew(judge=judge, world="Rules"))
    return folder


def test_a_run_is_read_with_its_rows_its_people_and_who_played(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "first")
    (found,) = read_results([run.root])
    assert found.label == "first"
    assert {name: tuple(rows) for name, rows in found.rows.items()} == {
        name: played(source) for name, source in MODELS.items()
    }
    assert dict(found.people) == {one.id: one for one in people()}
    assert found.setting == {"user": "rules", "judge": "rules", "sampling": DRAWN}
    assert read_results([run.eval])[0].summary == found.summary == read_summary(run.root)


def test_a_rescoring_is_read_as_the_run_with_its_own_judge(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "first")
    folder = rescored_run(run, "tiny", judge="tiny (temperature 0)")
    first, again = read_results([run.root, folder])
    assert (first.label, again.label) == ("first", "first/tiny")
    assert again.setting == {"user": "rules", "judge": "tiny (temperature 0)", "sampling": DRAWN}
    assert again.people == first.people


def test_runs_of_the_same_name_are_called_by_their_paths(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / place / "run").root for place in ("a", "b")]
    assert [one.label for one in read_results(runs)] == [str(path) for path in runs]


def test_who_judges_is_told_by_models_sampling_and_instructions() -> None:
    tiny = WeightedModel(model=LocalConfig(checkpoint="tiny"))
    role = RoleConfig(models=(tiny,), sampling=Sampling(temperature=0.5))
    assert judge_in_words(None, None) == "rules"
    assert judge_in_words(role, "abc") == "tiny in this process (temperature 0.5, max_tokens 256, prompt abc)"
    two = (tiny, WeightedModel(model=LocalConfig(checkpoint="small"), weight=2))
    judge = JudgeConfig(models=two, sampling=Sampling(temperature=0), weighted=True)
    who = "tiny in this process, small in this process x 2"
    assert judge_in_words(judge, None) == f"{who} (temperature 0, max_tokens 256, weighted)"


@pytest.mark.parametrize(
    "other", [Sampling(max_tokens=9), Sampling(temperature=0), Sampling(top_p=0.5), Sampling(stop=("x",))]
)
def test_judges_who_draw_in_other_ways_are_told_apart(other: Sampling) -> None:
    tiny = WeightedModel(model=LocalConfig(checkpoint="tiny"))
    role = RoleConfig(models=(tiny,))
    assert judge_in_words(role, None) != judge_in_words(role.model_copy(update={"sampling": other}), None)


def test_checks_and_sampling_are_told_where_they_matter(tmp_path: Path) -> None:
    roles = environment_played_by(LocalConfig(checkpoint="tiny"))
    config = CONFIG.model_copy(update={"roles": roles, "max_tokens": 99})
    (found,) = read_results([finished_run(tmp_path / "run", recipe=Recipe(seed=SEED, benchmark=config)).root])
    assert "max_tokens 99" in found.setting["sampling"]
    assert found.setting["checks"] == CONFIG.checks.model_dump_json()


def test_roles_of_the_recipe_are_told(tmp_path: Path) -> None:
    roles = environment_played_by(LocalConfig(checkpoint="tiny"))
    assert isinstance(roles, EnvironmentRoles)
    recipe = Recipe(seed=SEED, benchmark=CONFIG.model_copy(update={"roles": roles}))
    (found,) = read_results([finished_run(tmp_path / "run", recipe=recipe).root])
    assert found.setting["user"] == "tiny in this process (temperature 0.9, max_tokens 200)"
    assert found.setting["judge"] == "tiny in this process (temperature 0, max_tokens 100)"
    assert found.setting["inducer"] == "tiny in this process (temperature 0, max_tokens 600)"


def test_an_evaluation_and_a_rescoring_by_the_same_judge_go_together(tmp_path: Path) -> None:
    judge = environment_played_by(ScriptedConfig()).judge
    assert judge is not None
    # Where it is not given, what a reply may have depends on who judges.
    config = CONFIG.model_copy(update={"max_tokens": 60})
    first = finished_run(tmp_path / "first", recipe=Recipe(seed=SEED, benchmark=config))
    with Work.open(load_recipe(first.root / "recipe.toml"), first.root, Console(quiet=True)) as work:
        rescore(work, judge)
    recipe = Recipe(seed=SEED, benchmark=config.model_copy(update={"roles": EnvironmentRoles(judge=judge)}))
    second = finished_run(tmp_path / "second", recipe=recipe)
    prompts = prompt_hashes({"judge": instructions("rater")})
    write_json(second.eval / "evaluation.json", Evaluation(world="x", cases=card(people()), turns=3, prompts=prompts))
    again, other = read_results([first.root / "rescored" / "a-script", second.root])
    assert again.setting == other.setting
    assert again.setting["judge"] == f"a script (temperature 0, max_tokens 100, prompt {prompts['judge']})"


def test_without_a_recipe_nothing_is_known_of_who_played(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    (run.root / "recipe.toml").unlink()
    assert read_results([run.root])[0].setting == {}


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="holds no finished evaluation"):
            read_results([path])
    run = finished_run(tmp_path / "run")
    (run.eval / "tuned" / "verdicts.jsonl").unlink()
    with pytest.raises(InputError, match=r"verdicts\.jsonl does not exist"):
        read_results([run.root])


def test_the_same_result_twice_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    with pytest.raises(InputError, match="named twice"):
        read_results([run.root, tmp_path / "run" / ".." / "run"])

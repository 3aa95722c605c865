from __future__ import annotations

from pathlib import Path

import pytest

from interalign.errors import InputError
from interalign.evaluation.benchmark import BenchmarkConfig
from interalign.llm.backends import LocalConfig, ScriptedConfig
from interalign.llm.endpoint import EndpointConfig
from interalign.llm.offline import OFFLINE_MODEL
from interalign.pipeline.tested import Tested as Model
from interalign.pipeline.tested import refuse_unknown_method
from interalign.pipeline.tested import tested_in_words as in_words
from interalign.pipeline.tested import tested_models as models_of
from interalign.recipe import Recipe
from interalign.run import RunFolder


def test_what_each_tested_model_is_is_told() -> None:
    server = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    models = {
        "base": LocalConfig(checkpoint=OFFLINE_MODEL),
        "sft": LocalConfig(checkpoint="runs/a/models/sft"),
        "m+cot": server,
        "s": ScriptedConfig(),
    }
    assert in_words([Model(name, model) for name, model in models.items()]) == (
        "base (SmolLM2-135M-Instruct, offline), sft (runs/a/models/sft), m+cot (m at http://localhost:1/v1), "
        "s (a script)"
    )


@pytest.mark.parametrize("name", ["a+remind", "a+", "base+remind", "a+reminder+x"])
def test_a_name_that_ends_in_no_method_is_refused_wherever_it_comes_from(tmp_path: Path, name: str) -> None:
    run, of_recipe = RunFolder(tmp_path), Recipe(benchmark=BenchmarkConfig(models={name: ScriptedConfig()}))
    for recipe, names, extra in (
        (Recipe(), [name], {}),
        (Recipe(), [], {name: ScriptedConfig()}),
        (of_recipe, [], {}),
    ):
        with pytest.raises(InputError, match="ends in no method") as caught:
            models_of(run, recipe, names, extra)
        assert "methods: plain" in (caught.value.mend or "")


def test_a_method_that_was_nearly_named_is_offered() -> None:
    with pytest.raises(InputError, match=r"write \+reminder, if that is meant"):
        refuse_unknown_method("a+remind")
    refuse_unknown_method("a+b+reminder")
    refuse_unknown_method("plain-name")

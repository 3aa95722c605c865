from __future__ import annotations

from typing import Any

import pytest

from interalign.errors import InputError
from interalign.training.options import check_options, check_report_to
from interalign.training.train import DpoConfig, SftConfig, TrainConfig


def of(method: str, options: dict[str, Any], **stage: Any) -> TrainConfig:
    if method == "dpo":
        return TrainConfig(dpo=DpoConfig(trl=options, **stage))
    return TrainConfig(sft=SftConfig(trl=options))


@pytest.mark.parametrize(("method", "options"), [
    ("dpo", {"loss_type": ["robust"], "label_smoothing": 0.1, "optim": "adamw_torch"}),
    ("dpo", {"f_divergence_type": "js_divergence"}),
    ("sft", {"weight_decay": 0.1, "lr_scheduler_type": "cosine"}),
    ("sft-rejected", {}),
])  # fmt: skip
def test_options_that_can_be_meant(method: Any, options: dict[str, Any]) -> None:
    check_options(method, of(method, options), packed=True)


@pytest.mark.parametrize(("method", "options", "says"), [
    ("dpo", {"loss_typ": ["ipo"]}, r"\[train.dpo.trl\]: TRL has no option 'loss_typ'.*did you mean 'loss_type'"),
    ("dpo", {"beta": 0.3}, "'beta' is settled by interalign.*set beta"),
    ("dpo", {"gradient_accumulation_steps": 2}, "set trees_per_step"),
    ("dpo", {"save_strategy": "no"}, "set train.save_every"),
    ("dpo", {"label_smoothing": 0.1}, r"'label_smoothing' changes nothing.*robust"),
    ("dpo", {"truncation_mode": "keep_end"}, r"means nothing for packed trees.*packing = .trl"),
    ("dpo", {"optim": "adamm"}, "TRL refuses this"),
    ("sft", {"max_steps": 3}, r"\[train.sft.trl\].*set epochs"),
    ("sft", {"chat_template_path": "/nowhere"}, "means nothing for packed trees"),
    ("sft", {"loss_type": "dft"}, "means nothing for packed trees"),
])  # fmt: skip
def test_options_that_cannot_be_meant(method: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_options(method, of(method, options), packed=True)


def test_two_weights_for_one_thing() -> None:
    with pytest.raises(InputError, match=r"say what train\.dpo\.sft_weight says"):
        check_options("dpo", of("dpo", {"loss_type": ["hinge"]}, sft_weight=0.5), packed=True)


def test_inpo_has_no_loss_of_trl() -> None:
    with pytest.raises(InputError, match="'ld_alpha' means nothing to INPO"):
        check_options("dpo", of("dpo", {"ld_alpha": 0.5}), packed=True, by_inpo=True)


def test_rows_take_what_trees_do_not() -> None:
    check_options("sft", of("sft", {"loss_type": "dft"}), packed=False)


@pytest.mark.parametrize(("name", "says"), [("wand", "did you mean 'wandb'"), ("wandb", "pip install wandb")])
def test_metrics_go_where_they_can(name: str, says: str) -> None:
    if name == "wandb":
        pytest.importorskip("transformers")
        try:
            import wandb  # noqa: F401
        except ModuleNotFoundError:
            pass
        else:
            pytest.skip("wandb is installed")
    with pytest.raises(InputError, match=says):
        check_report_to([name])


def test_nowhere_is_fine() -> None:
    check_report_to([])

"""Multiple choice: whether a model picks, of several answers, the one that suits the person it has talked to."""

from __future__ import annotations

from interalign.evaluation.choices.asking import Choice, ChoiceConfig, ask_all
from interalign.evaluation.choices.files import ReadChoices, read_choices
from interalign.evaluation.choices.item import ChoiceItem
from interalign.evaluation.choices.letters import read_letter
from interalign.evaluation.choices.summary import Accuracy, ChoiceGroup, ChoiceSummary, summarise_choices, table

__all__ = [
    "Accuracy",
    "Choice",
    "ChoiceConfig",
    "ChoiceGroup",
    "ChoiceItem",
    "ChoiceSummary",
    "ReadChoices",
    "ask_all",
    "read_choices",
    "read_letter",
    "summarise_choices",
    "table",
]

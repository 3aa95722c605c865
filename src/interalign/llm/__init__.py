"""Chat models behind one interface, and the journal that keeps every paid answer."""

from __future__ import annotations

from interalign.llm.endpoint import EndpointConfig, EndpointModel
from interalign.llm.journal import Journal, journalled
from interalign.llm.model import Answer, Chance, ChatModel, Finish, Request, Sampling, Usage, call_key
from interalign.llm.scripted import ScriptedModel

__all__ = [
    "Answer",
    "Chance",
    "ChatModel",
    "EndpointConfig",
    "EndpointModel",
    "Finish",
    "Journal",
    "Request",
    "Sampling",
    "ScriptedModel",
    "Usage",
    "call_key",
    "journalled",
]

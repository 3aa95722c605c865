"""Persona files in and out: what others wrote becomes descriptions and personas, and a pool becomes a dataset folder.

What is read was written elsewhere, so it is data and nothing more. One bad record never ends the reading: it is a
problem with its place, and the records around it come in. A text that speaks to a language model is kept and named,
since personas stand delimited wherever a model reads them.

A record that carries the id of its content is one that interalign wrote. It comes back exactly as it stands, or not at
all; only records without such an id are cleaned.
"""

from __future__ import annotations

from interalign.personas.exchange.containers import Problem
from interalign.personas.exchange.dataset import (
    write_dataset,
    write_descriptions_dataset,
    write_descriptions_parquet,
    write_personas_parquet,
)
from interalign.personas.exchange.records import MAX_CHARACTERS, Imported, read_pool

__all__ = [
    "MAX_CHARACTERS",
    "Imported",
    "Problem",
    "read_pool",
    "write_dataset",
    "write_descriptions_dataset",
    "write_descriptions_parquet",
    "write_personas_parquet",
]

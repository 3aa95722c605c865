"""What this machine computes with: where models run, and in which number format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["cpu_flags", "has_bf16", "pick_device", "pick_dtype"]

_CPUINFO = Path("/proc/cpuinfo")


def has_bf16(cpuinfo: str) -> bool:
    """Whether a CPU, given the text of its /proc/cpuinfo, multiplies bfloat16 in hardware (AVX-512, AMX or Arm)."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu_flags(cpuinfo))


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The instruction set extensions that a /proc/cpuinfo names, for its first processor."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def pick_device() -> str:
    """`cuda` when there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it (6 to 8 times faster than float32 on such CPUs), else float32."""
    import torch

    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    cpuinfo = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.exists() else ""
    return torch.bfloat16 if has_bf16(cpuinfo) else torch.float32

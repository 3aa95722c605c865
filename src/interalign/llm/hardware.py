"""What this machine computes with: where models run, and in which number format."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

__all__ = ["Precision", "cpu_flags", "has_bf16", "keep_freed_memory", "machine", "pick_device", "pick_dtype"]

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""Number format of weights; `auto` is what the hardware is fast at."""

_CPUINFO = Path("/proc/cpuinfo")

_NVIDIA = Path("/proc/driver/nvidia")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Numbers of glibc's mallopt(3)."""


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


def machine() -> str:
    """This machine in a line: cores, memory, system, and the GPU, where torch is installed to see one."""
    cpuinfo = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.exists() else ""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    fast = " (avx512_bf16)" if "avx512_bf16" in cpu_flags(cpuinfo) else ""
    try:
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        memory = ""
    try:
        import torch

        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", CPU only"
    except ModuleNotFoundError:
        gpu = ""
    return f"{os.cpu_count()} cores of {name}{fast}{memory}, {platform.system()}{gpu}"


def pick_device() -> str:
    """`cuda` when there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(device: str, precision: Precision = "auto") -> torch.dtype:
    """The number format of weights on a device.

    `auto` is bfloat16 where the hardware multiplies it (6 to 8 times faster than float32 on such CPUs), else float32.
    """
    import torch

    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.startswith("cuda"):
        # Older GPUs emulate bfloat16, and are slower with it than without.
        multiplies = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        multiplies = has_bf16(_CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.exists() else "")
    return torch.bfloat16 if multiplies else torch.float32


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees for itself, in large pages.

    Training on a CPU frees and takes gigabytes at every step. By default glibc takes each large tensor anew from the
    system, which clears it page by page: about a sixth of a step. Comes before torch is imported. Nothing changes with
    another C library or allocator, nor on a machine with an NVIDIA GPU, where weights that have moved there would stay.
    """
    if _NVIDIA.exists():
        return
    if platform.libc_ver()[0] == "glibc":
        # torch reads it once.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

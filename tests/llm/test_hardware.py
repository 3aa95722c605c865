from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interalign.llm.hardware import cpu_flags, has_bf16, machine, pick_device, pick_dtype


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse2\n", True),
        ("flags\t\t: fpu amx_tile amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f\nmodel name\t: avx512_bf16\n", False),
        ("flags\t\t: not_avx512_bf16\n", False),
        ("", False),
    ],
)
def test_bf16(cpuinfo: str, expected: bool) -> None:
    assert has_bf16(cpuinfo) is expected


def test_flags_are_those_of_the_first_processor() -> None:
    assert cpu_flags("flags\t: a b\n\nflags\t: a b c\n") == {"a", "b"}


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_named_precision_is_taken_at_its_word(device: str) -> None:
    assert pick_dtype(device, "float32") is torch.float32
    assert pick_dtype(device, "bfloat16") is torch.bfloat16


def test_what_is_picked_works_on_this_machine() -> None:
    device = pick_device()
    ones = torch.ones(2, 2, device=device, dtype=pick_dtype(device))
    assert (ones @ ones).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_machine_is_a_line() -> None:
    line = machine()
    assert line.startswith(f"{os.cpu_count()} cores of ")
    assert "\n" not in line


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or Path("/proc/driver/nvidia").exists(), reason="wants glibc and no GPU"
)
def test_freed_memory_is_kept_only_when_asked_for() -> None:
    script = """
import sys
from interalign.llm.hardware import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
much = bytearray(200 * 2**20)
small = bytearray(100)
del much
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", script, *how], capture_output=True, text=True, check=True).stdout)
        for how in ([], ["keep"])
    )
    assert kept - plain > 150 * 2**10

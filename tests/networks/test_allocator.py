"""Freed memory: kept by a process that trains, returned while it collects small things between large ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import contextlib
import sys
import torch
from medidistill.networks import freed_memory_returned, raise_malloc_thresholds

def own():
    line = next(one for one in open("/proc/self/status") if one.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024

def collect(kept):
    for _ in range(40):
        large = [torch.empty(2**20 + 2**14 * i).fill_(1) for i in range(4)]  # 4 MB and a little more each
        small = torch.empty(2**14).fill_(1)
        del large
        kept.append(small)

raise_malloc_thresholds()
block = freed_memory_returned() if sys.argv[1] == "returned" else contextlib.nullcontext()
kept, before = [], own()
with block:
    collect(kept)
print(own() - before)
freed = torch.empty(2**24).fill_(1)
before = own()
del freed
print(before - own())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the thresholds")
def test_small_blocks_do_not_hold_large_ones_where_freed_memory_is_returned() -> None:
    def grown(how: str) -> tuple[float, float]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        held, returned = map(float, done.stdout.split())
        return held, returned

    held, returned = grown("returned")
    assert held < 10  # 40 small blocks are 2.5 MB
    assert returned < 32  # behind the block it is kept again, all 64 MB of it
    assert grown("kept")[0] > held

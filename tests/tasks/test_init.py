"""What importing `tasks` sets for the process, before any library reads it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = """
import os, tasks, torch
torch.set_num_threads(2)
torch.manual_seed(0)
net = torch.nn.Conv2d(16, 16, 3, padding=1)
for _ in range(3):
    net(torch.randn(4, 16, 32, 32)).square().mean().backward()
print(os.environ["GOMP_SPINCOUNT"], net.weight.grad.numpy().tobytes().hex())
"""


def said(spins: str | None) -> tuple[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | {"PYTHONPATH": str(ROOT)}
    environment |= {"GOMP_SPINCOUNT": spins} if spins else {}
    done = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True)
    found, gradient = done.stdout.split()
    return found, gradient


def test_threads_soon_sleep_unless_told_otherwise_and_no_bit_depends_on_it() -> None:
    asleep, spinning = said(None), said("300000")
    assert (asleep[0], spinning[0]) == ("3000", "300000")
    assert asleep[1] == spinning[1]

"""Beside a PyTorch DataLoader: its workers call normcore while the process that feeds on them trains with normcore."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from reliability.patience import patience

pytest.importorskip("torch.nn", reason="PyTorch, whose DataLoader this is, is not installed")

PROGRAM = """
import hashlib, sys
import numpy as np, torch
import normcore as nc
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    # Each row is a piece of a large array that the worker normalises, on threads if it may.
    def __len__(self):
        return 96
    def __getitem__(self, i):
        x = np.random.default_rng(i).standard_normal((64, 1000)).astype("float32")
        return nc.layer_norm(x, 1000)[i % 64, :50], i % 3

def trained(workers, context):
    model = nc.MLP([50, 400, 3], norm="batch", seed=0)
    trainer = nc.Trainer(model, nc.optim.Adam(model.parameters()), "cross_entropy")
    loader = DataLoader(
        Rows(), batch_size=32, num_workers=workers, multiprocessing_context=context,
        timeout=int(sys.argv[2]) if workers else 0)
    for _ in range(2):
        for X, y in loader:
            torch.nn.functional.layer_norm(torch.ones(2000, 100), (100,))  # PyTorch's threads, beside ours
            with nc.threads(2):
                trainer.partial_fit(X.numpy(), y.numpy())
                nc.batch_norm(np.ones((64, 1000)), training=True)
    return hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()

if __name__ == "__main__":
    print(trained(0, None) == trained(2, sys.argv[1]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has spawn alone, and no fork to fear")
@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_workers_and_a_training_beside_them(context, tmp_path):
    """Forked after threads of PyTorch and of normcore were used; begun anew; all to the bits of no workers."""
    import normcore

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    path = os.pathsep.join(filter(None, (os.path.dirname(os.path.dirname(normcore.__file__)), os.getenv("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(program), context, str(patience(100))], env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=patience(200), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"

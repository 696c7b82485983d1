"""What a training step asks of a CUDA device, counted exactly. As tests/test_counts.py, which counts on the CPU.

A number that went up is a step that got slower where Python is what a small model waits for; one that went down is put
into the table here and into docs/gpu.md.
"""

from __future__ import annotations

import pytest

from benchmarks.launches import NotCounted, counted, operations, summary

# launches, of these matrix products and memsets, and copies
EXPECTED = {
    "W1": (31, 2, 0, 0),
    "W2": (38, 5, 0, 0),
    "W3m": (28, 8, 0, 0),
    "W3a": (28, 8, 0, 0),
    "W4a": (43, 5, 0, 0),
    "W4b": (73, 8, 0, 0),
    "W5": (92, 21, 1, 0),
    "S1": (32, 8, 0, 0),
    "S2": (73, 8, 0, 0),
    "S3": (327, 75, 4, 0),
}


@pytest.fixture(scope="module")
def found():
    try:
        return counted(list(EXPECTED))
    except NotCounted as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_step_launches_what_it_launched(name, found):
    assert tuple(summary(found[name]).values()) == EXPECTED[name]


COMPILED = {"W1": 30, "W2": 37, "W3m": 27, "W3a": 27, "W4a": 42, "W4b": 72, "W5": 90}  # launches


@pytest.fixture(scope="module")
def found_of_compiled():
    try:
        return counted(list(COMPILED), compiled=True)
    except NotCounted as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_step_launches_no_more(name, found_of_compiled):
    assert summary(found_of_compiled[name])["launches"] == COMPILED[name] < EXPECTED[name][0]


CODE = """
import sys, tinytorch
from tinytorch import Tensor, nn, optim

def say(text):
    print(text, file=sys.stderr, flush=True)

tinytorch.set_default_device(sys.argv[1])
x, ids = tinytorch.rand(32, 4), Tensor([0, 1, 2, 3] * 8)
loader = tinytorch.data.DataLoader(tinytorch.data.TensorDataset(x, ids), batch_size=8, shuffle=True)
dropout, norm = nn.Dropout(0.5), nn.LayerNorm(4)
weight = nn.Parameter(tinytorch.rand(4, 4))
weight.grad = tinytorch.rand(4, 4)
optimizers = [
    optim.SGD([weight], lr=0.1), optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True), optim.Adam([weight]),
    optim.AdamW([weight]),
]
many = [tinytorch.rand(3, 2) for _ in range(20)]

def parts():
    yield "loader", lambda batches=iter(loader): next(batches)
    yield "dropout", lambda: dropout(x)
    yield "embedding", lambda: tinytorch.embedding(ids, weight)
    yield "gelu", lambda: tinytorch.gelu(x)
    yield "norm", lambda: norm(x)
    yield "concat", lambda: tinytorch.concat(many, axis=1)
    for i, optimizer in enumerate(optimizers):
        yield f"optimizer {i}", optimizer.step

for name, run in parts():
    run(), run()
    say(f"begin {name}")
    run()
    say("end")
"""

PARTS = {  # launches
    "loader": 2,  # one for each tensor, and the indices are copied
    "dropout": 2,
    "embedding": 2,  # of these one is the check
    "gelu": 1,
    "norm": 1,
    "concat": 1,
    "optimizer 0": 1,
    "optimizer 1": 1,
    "optimizer 2": 1,
    "optimizer 3": 2,
}


@pytest.fixture(scope="module")
def parts():
    try:
        return operations(CODE, "cuda:0")
    except NotCounted as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_step_launches_what_it_launched(name, parts):
    assert summary(parts[name])["launches"] == PARTS[name], parts[name]
    assert ("check_index" in parts[name]) == (name == "embedding")
    assert summary(parts[name])["copies"] == (name == "loader")

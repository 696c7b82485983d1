"""Names of PyTorch's and NumPy's that are not here: the error says what to write, or that there is no such thing."""

from __future__ import annotations

import copy
import doctest
import functools
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn, parity, spelled, verify
from tinytorch.parity import compare

PLACES = {
    "torch": tinytorch,
    "torch.nn": nn,
    "torch.optim": tinytorch.optim,
    "torch.utils.data": tinytorch.data,
    "torch.Tensor": Tensor([[1.0]]),
    "torch.nn.Module": nn.Linear(1, 1),
    "numpy": tinytorch,
    "numpy.ndarray": Tensor([[1.0]]),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_public_name_is_here_or_has_a_hint(place):
    library, *path = place.split(".")
    theirs, ours = functools.reduce(getattr, path, pytest.importorskip(library)), PLACES[place]
    names = [name for name in dir(theirs) if not name.startswith("_")]
    assert len(names) > 15
    for name in names:
        if not hasattr(ours, name):
            with pytest.raises(AttributeError, match=f"has no attribute '{name}'; ") as caught:
                getattr(ours, name)
            assert caught.value.name == name


class Mine(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("get", "hint"),
    [
        (lambda: tinytorch.cat, r"write tinytorch\.concat\(\[x, y\], axis=\.\.\.\)"),
        (lambda: tinytorch.from_numpy, r"write tinytorch\.asarray\(x\)"),
        (lambda: tinytorch.concatenate, r"write tinytorch\.concat"),
        (lambda: tinytorch.arctan2, r"write tinytorch\.atan2"),
        (lambda: tinytorch.float, r"write tinytorch\.float32"),
        (lambda: tinytorch.bfloat16, "float32; there is no other precision"),
        (lambda: tinytorch.complex64, "the dtypes are float32"),
        (lambda: tinytorch.fft, "Fourier transforms are not in tinytorch"),
        (lambda: tinytorch.Dataset, "__len__ and __getitem__"),
        (lambda: tinytorch.TensorDataset, r"write tinytorch\.data\.TensorDataset"),
        (lambda: tinytorch.foo, r"it is not in tinytorch; what there is: dir\(tinytorch\)"),
        (lambda: tinytorch.relu_, "nothing is changed in place"),
        (lambda: tinytorch.data.foo, r"^module 'tinytorch\.data' has no attribute 'foo'; .* dir\(tinytorch\.data\)"),
        (lambda: tinytorch.optim.foo, r"^module 'tinytorch\.optim' has no attribute 'foo'; .* dir\(tinytorch\.optim\)"),
        (lambda: nn.foo, r"^module 'tinytorch\.nn' has no attribute 'foo'; .* dir\(tinytorch\.nn\)"),
        (lambda: nn.functional, "`import tinytorch as F`"),
        (lambda: nn.BatchNorm2d, "LayerNorm, where that serves"),
        (lambda: nn.MultiheadAttention, "write MultiHeadAttention"),
        (lambda: nn.relu, r"write tinytorch\.relu"),
        (lambda: tinytorch.optim.lr_scheduler, "optimizer.param_groups"),
        (lambda: tinytorch.data.Dataset, "any class with __len__"),
        (lambda: Tensor([1.0]).clamp(0), r"write x\.clip\(min, max\)"),
        (lambda: Tensor([1.0]).atan2, r"write tinytorch\.atan2"),
        (lambda: Tensor([1.0]).sub_, "write x -= y"),
        (lambda: Tensor([1.0]).exp_, "nothing is changed in place"),
        (lambda: Tensor([1.0]).size(0), r"size: .*x\.shape\[0\]"),
        (lambda: nn.Linear(1, 1).float(), r"write model\.to\(tinytorch\.float32\)"),
        (lambda: nn.Linear(1, 1).register_forward_hook, "hooks are not in tinytorch"),
        (lambda: nn.Linear(1, 1).grad, r"write \[p\.grad for p in model\.parameters\(\)\]"),
        (lambda: tinytorch.cuda.is_available(), r'write model\.to\("cuda"\); tinytorch\.devices\(\) says'),
        (lambda: tinytorch.save, r"write numpy\.savez\(path, \*\*model\.state_dict\(\)\)"),
        (lambda: tinytorch.is_tensor, r"write isinstance\(x, tinytorch\.Tensor\)"),
        (lambda: tinytorch.set_default_dtype, r"write dtype=\.\.\.; the default is float32"),
        (lambda: Tensor([1.0]).norm(), r"write tinytorch\.sqrt\(tinytorch\.sum\(x \* x\)\)"),
        (lambda: Tensor([1.0]).shpae, r"what there is: dir\(tinytorch\.Tensor\)"),
        (lambda: tinytorch.autograd.Function, r"write @tinytorch\.autograd\.op, on a function"),
        (lambda: nn.init.kaiming_normal, "the name with _ at its end"),
        (lambda: tinytorch.random.seed, r"write tinytorch\.manual_seed\(n\)"),
        (lambda: tinytorch.SGD([Tensor([1.0])], lr=0.1).state, r'write optimizer\.state_dict\(\)\["state"\]'),
        (lambda: tinytorch.SGD([Tensor([1.0])], lr=0.1).param_group, r"dir\(tinytorch\.optim\.Optimizer\)"),
        (lambda: tinytorch.device("cpu").type, r"write device\.name, or device\.is_gpu"),
        (lambda: Mine().linear, r"^Mine has no attribute 'linear'; set it in __init__; it has fc$"),
    ],
)
def test_hints(get, hint):
    with pytest.raises((AttributeError, TypeError), match=hint):
        get()


IMPORTS = {
    "from tinytorch import cat": r"^there is no 'cat' in 'tinytorch'; write tinytorch\.concat\(\[x, y\], axis=",
    "from tinytorch import Tensor, from_numpy": r"'from_numpy' in 'tinytorch'; write tinytorch\.asarray\(x\)$",
    "from tinytorch import relu_": "'relu_' in 'tinytorch'; nothing is changed in place",
    "from tinytorch import fft": "'fft' in 'tinytorch'; Fourier transforms are not in tinytorch",
    "import tinytorch.cuda": r"'cuda' in 'tinytorch'; write model\.to\(\"cuda\"\)",
    "from tinytorch.nn import BatchNorm2d": r"'BatchNorm2d' in 'tinytorch\.nn'; write LayerNorm, where that serves$",
    "from tinytorch.nn import Linear, relu": r"'relu' in 'tinytorch\.nn'; write tinytorch\.relu$",
    "from tinytorch.nn import functional as F": r"'functional' in 'tinytorch\.nn'; .*`import tinytorch as F`$",
    "import tinytorch.nn.functional as F": r"'functional' in 'tinytorch\.nn'; .*`import tinytorch as F`$",
    "from tinytorch.nn.functional import relu": r"'functional' in 'tinytorch\.nn'; .*`import tinytorch as F`$",
    "from tinytorch.optim import RMSprop": r"'RMSprop' in 'tinytorch\.optim'; write Adam, AdamW or SGD$",
    "from tinytorch.optim.lr_scheduler import StepLR": r"'lr_scheduler' in 'tinytorch\.optim'; write for group in",
    "from tinytorch.utils.data import DataLoader": r"'utils' in 'tinytorch'; write tinytorch\.data",
    "from tinytorch.data import Dataset": r"'Dataset' in 'tinytorch\.data'; write any class with __len__",
}


@pytest.mark.parametrize(("statement", "message"), IMPORTS.items(), ids=IMPORTS)
def test_an_import_says_what_to_write(statement, message):
    with pytest.raises(ImportError, match=message) as caught:
        exec(statement, {})
    assert [e.name for e in caught.traceback][-1] == "find_spec"  # one line below the import itself


@pytest.mark.parametrize(
    "statement", ["from tinytorch import foo", "import tinytorch.foo", "from tinytorch.nn import _x"]
)
def test_an_import_of_a_name_that_is_nobodys_is_as_python_has_it(statement):
    with pytest.raises(ImportError, match=r"^(cannot import name|No module named) "):
        exec(statement, {})


def test_whoever_looks_for_a_name_finds_that_it_is_not_there():
    for module, name in ((tinytorch, "cat"), (nn, "functional"), (tinytorch.optim, "RMSprop")):
        assert not hasattr(module, name)
        assert getattr(module, name, None) is None
        assert inspect.getattr_static(module, name, None) is None
        assert name not in dict(inspect.getmembers(module))
    assert importlib.util.find_spec("tinytorch.foo") is None
    assert doctest.DocTestFinder().find(nn, "tinytorch.nn") is not None
    assert "digits" in [m.name for m in pkgutil.iter_modules(tinytorch.data.__path__)]
    with pytest.raises(AttributeError, match="does not have the attribute 'cat'"), mock.patch("tinytorch.cat"):
        pass
    with pytest.raises(pytest.skip.Exception):
        pytest.importorskip("tinytorch.cuda")
    assert copy.copy(tinytorch.nn.Linear(1, 1)).in_features == 1


def test_one_finder_for_imports():
    assert sys.meta_path.count(spelled.Imports) == 1
    assert sys.meta_path[-1] is spelled.Imports or sys.meta_path.index(spelled.Imports) > 2  # after Python's own


@pytest.mark.parametrize("place", ["tinytorch", *spelled._PLACES])
def test_hints_name_functions_that_are_there(place):
    table = spelled._PLACES.get(place, spelled.FUNCTIONS)
    for written in [*table.values(), *(spelled.hint(place, name, spelled.KNOWN) for name in table)]:
        for name in re.findall(r"tinytorch\.((?:\w+\.)*\w+)", written):
            found = tinytorch
            for part in name.split("."):
                found = getattr(found, part)
        assert not re.search(r"tinytorch\.(tinytorch|numpy|model|isinstance|dtype=)", written)
    for written in spelled.FUNCTIONS.values():
        name = re.match(r"(\w+)\(", written)
        assert name is None or name[1] == "isinstance" or hasattr(tinytorch, name[1]), written


def test_pytorch_is_not_imported_for_that():
    code = "import sys, tinytorch\ntry: tinytorch.cat\nexcept AttributeError: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_error_inside_a_property_is_not_hidden():
    class Model(nn.Module):
        @property
        def width(self):
            return self.layer.in_features

    with pytest.raises(AttributeError, match="has no attribute 'layer'"):
        Model().width  # noqa: B018


def test_the_spelling_of_the_course():
    assert tinytorch.BinaryCrossEntropyLoss is nn.BCELoss


def test_what_is_shown_at_the_prompt():
    data = tinytorch.data.TensorDataset(tinytorch.ones((5, 2)), tinytorch.arange(5))
    assert repr(data) == "TensorDataset(5 examples: float32 (5, 2), int64 (5,))"
    assert repr(tinytorch.data.Subset(data, [0, 1])) == f"Subset(2 of {data!r})"
    loader = tinytorch.data.DataLoader(data, batch_size=2, shuffle=True)
    assert repr(loader) == f"DataLoader(3 batches of 2 in random order, of {data!r})"
    assert repr((Tensor([1.0], requires_grad=True)[0]).node) == "<node of getitem, shape ()>"
    assert repr(tinytorch.no_grad()) == "<gradients off>"
    assert repr(tinytorch.debug(False)) == "<debug off>"
    assert repr(tinytorch.device("cpu").stream()) == "<Stream>"
    assert repr(tinytorch.finfo("float32")).startswith("finfo(bits=32, eps=1.19")


def test_what_is_shown_of_proofs_at_the_prompt():
    def train(run):
        model = nn.Linear(2, 1)
        optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
        run.watch(model, optimizer)
        for x in run.batches([tinytorch.ones((1, 2))], 2):
            optimizer.zero_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            yield loss
            optimizer.step()

    report = verify.verify(train, seeds=2)
    assert repr(report) == str(report)
    assert re.match(r"<'train': \d of 2 runs pass, 0 of 0 controls are noticed>", repr(report.subjects[0]))
    assert repr(verify.run_once(train)) == "<run of 'train' on cpu, seed 0, 2 updates>"
    assert repr(verify.controls.freeze("0")) == "Control(name='with `0` frozen', fails='movement')"
    model = nn.Linear(2, 1)
    found = verify.diagnose(model, lambda: Tensor([0.0], requires_grad=True).sum())
    assert repr(found) == str(found) != "nothing found"
    card = parity.examine("cpu", ops=("abs",))
    assert repr(card) == f"<card of cpu: numpy {np.__version__}, 0 failed, 0 unsupported>"
    same = compare(train, ["cpu"] * 2, updates=1)
    assert repr(same) == "<cpu and cpu: 1 updates in float32, seed 0>"

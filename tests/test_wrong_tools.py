"""As `test_wrong_arguments`, for what is around the functions: optimizers, modules' and tensors' methods, tests, proof.

And none is forgotten: each name in the `__all__` of a public module is in a row, or among those that need none.
"""

from __future__ import annotations

import importlib
import re
import types

import numpy as np
import pytest

import tinytorch
from tests import test_wrong_arguments as functions
from tests.test_wrong_arguments import Call, complaint, f, made, method
from tinytorch import Tensor, backends, nn, optim, parity, testing, verify
from tinytorch.parity import compare, difference
from tinytorch.verify import controls, gates, sabotage

T = tinytorch


def leaf(*shape):
    return f(*shape, dtype="float64").requires_grad_()


def parameters():
    return [nn.Parameter([1.0, 2.0]), nn.Parameter([3.0])]


def stepped():
    p = nn.Parameter([1.0, 2.0])
    p.grad = Tensor([1.0, 1.0])
    optimizer = T.SGD([p], lr=0.1, momentum=0.9)
    optimizer.step()
    return optimizer


def train(run):
    model = nn.Linear(2, 1)
    optimizer = T.SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer, loss=lambda: ((model(T.ones((1, 2))) - 1.0) ** 2).sum())
    for x in run.batches([T.ones((1, 2))], 2):
        optimizer.zero_grad()
        loss = ((model(x) - 1.0) ** 2).sum()
        loss.backward()
        yield loss
        optimizer.step()


def model():
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))


def buffered():
    layer = nn.Linear(2, 2)
    layer.register_buffer("mean", T.zeros((2,)))
    return layer


def report_of():
    return verify.verify(train)


GROUP = {"params": [nn.Parameter([1.0])], "lr": 0.5}
SETTINGS = {"lr": 0.1, "weight_decay": 0.0}
LOADED = stepped().state_dict()

OPTIMIZERS = [
    Call("SGD", T.SGD, lambda: parameters(), names=["params"], **SETTINGS, momentum=0.9, dampening=0.0, nesterov=False),
    Call("Adam", T.Adam, lambda: parameters(), names=["params"], **SETTINGS, betas=(0.9, 0.99), eps=1e-8),
    Call("AdamW", T.AdamW, lambda: parameters(), names=["params"], **SETTINGS, betas=(0.9, 0.99), eps=1e-8),
    Call("Optimizer", optim.Optimizer, lambda: parameters(), lambda: dict(SETTINGS), names=["params", "defaults"]),
    method("step", made=stepped, called="step"),
    method("zero_grad", made=stepped, called="zero_grad", set_to_none=False),
    method("add_param_group", lambda: GROUP, made=stepped, called="add_param_group|SGD", names=["group"]),
    method("state_dict", made=stepped, called="state_dict"),
    method("load_state_dict", LOADED, made=stepped, called="load_state_dict|SGD", names=["state_dict|state|a state"]),
]

MODULES = [
    method("named_children", made=model),
    method("children", made=model),
    method("named_modules", made=model, prefix="a", remove_duplicate=False),
    method("modules", made=model),
    method("named_parameters", made=model),
    method("parameters", made=model),
    method("register_buffer", "mean", lambda: f(2), made=model, names=["name", "tensor"]),
    method("named_buffers", made=buffered),
    method("buffers", made=buffered),
    method("train", True, made=model, names=["mode"]),
    method("eval", made=model),
    method("zero_grad", made=model),
    method("requires_grad_", False, made=model, names=["requires_grad"]),
    method("apply", print, made=lambda: nn.Module.__new__(nn.Module), names=["function"]),
    method("to", "cpu", names=["argument|device|dtype"], made=model, called="to|device"),
    method("to", made=model, device="cpu", dtype=T.float64, called="to|device"),
    method("cpu", made=model),
    method("cuda", 0, made=model, names=["index"], called="cuda|to|device"),
    method("state_dict", made=model),
    method("load_state_dict", model().state_dict(), made=model, names=["state_dict"], strict=False),
    method(
        "append",
        lambda: nn.ReLU(),
        made=lambda: nn.ModuleList([nn.ReLU()]),
        names=["modules"],
        called="append|ModuleList",
    ),
    method(
        "extend",
        lambda: [nn.ReLU()],
        made=lambda: nn.ModuleList([nn.ReLU()]),
        names=["modules"],
        called="extend|ModuleList",
    ),
    method("__getitem__", 0, made=model, names=["index"], called="Sequential"),
    method("__setitem__", 0, lambda: nn.ReLU(), made=model, names=["index", "module|modules"], called="Sequential"),
]
TENSORS = [
    *[method(n) for n in ("detach", "numpy", "tolist", "copy", "cpu")],
    method("clone", called="clone|copy"),
    method("item", made=lambda: f(1)),
    method("__array_namespace__", api_version="2024.12", called="__array_namespace__"),
]
PROOFS = [
    Call(
        "verify",
        verify.verify,
        lambda: train,
        called="verify|device",
        names=["train"],
        gates=lambda: [gates.updates(2)],
        controls=lambda: [controls.scale_gradient()],
        seeds=1,
        enough=1,
        device="cpu",
        name="model",
        progress=None,
    ),
    Call(
        "run_once",
        verify.run_once,
        lambda: train,
        called="run_once|device",
        names=["train"],
        seed=0,
        device="cpu",
        updates=1,
        control=None,
        name="model",
        progress=None,
    ),
    Call("diagnose", verify.diagnose, lambda: model(), lambda: f(2).sum(), names=["model", "loss"], optimizer=None),
    method(
        "watch",
        lambda: model(),
        made=lambda: verify.Handle(backends.device("cpu"), 0),
        names=["model"],
        optimizer=lambda: T.SGD(parameters(), lr=0.1),
        loss=None,
        metric=None,
        train_metric=None,
        curve=False,
    ),
    Call(
        "Handle",
        verify.Handle,
        backends.device("cpu"),
        0,
        names=["device", "seed"],
        dtype=T.float32,
        control=None,
        limit=1,
        one_batch=False,
    ),
    Call("Gate", verify.Gate, "name", "claim", print, names=["name", "claim", "check"]),
    Call("Found", verify.Found, True, "measured", ("why",), names=["passed", "measured", "why"]),
    Call("Verdict", verify.Verdict, "gate", "claim", verify.Found(True, ""), names=["gate", "claim", "found"]),
    Call("Finding", verify.Finding, "kind", "culprit", "text", names=["kind", "culprit", "text"]),
    Call(
        "Control", verify.Control, "name", "fails", names=["name", "fails"], model=print, batch=print, gradients=print
    ),
    Call(
        "Report",
        verify.Report,
        "name",
        backends.device("cpu"),
        names=["name", "device"],
        subjects=[],
        claims=[],
    ),
    method(
        "claim",
        "all is well",
        True,
        "5",
        made=report_of,
        called="claim|Found|Verdict",
        names=["claim|gate", "passed", "measured"],
    ),
    method(
        "joined", "all", lambda: [report_of()], made=report_of, names=["name", "reports"], called="joined|Report.joined"
    ),
    method("assert_ok", made=lambda: report_of()),
    method("lines", made=report_of),
    method("to_dict", made=report_of),
    method("to_json", made=report_of),
    method("to_junit", made=report_of),
    method("cases", made=report_of),
    Call("loss_drop", gates.loss_drop, 0.5, names=["least"]),
    Call("metric", gates.metric, 0.5, names=["least"], most=0.9, name="accuracy", called="metric|gates.metric"),
    Call("gap", gates.gap, 0.5, names=["most"], called="gap|gates.gap"),
    Call("finite_gradients", gates.finite_gradients, exempt={"a": "b"}),
    Call("nonzero_gradients", gates.nonzero_gradients, exempt={"a": "b"}),
    Call("movement", gates.movement, 1e-3, names=["least"], of="*", exempt=None, name="movement"),
    Call("fresh_gradients", gates.fresh_gradients),
    Call("updates", gates.updates, 5, names=["n"]),
    Call("overfit", gates.overfit, drop=0.9, within=500),
    Call("repeatable", gates.repeatable),
    Call("predicted", gates.predicted, tolerance=0.1, exempt={"a": "b"}),
    Call("common", gates.common),
    Call("freeze", controls.freeze, "0", nn.Linear, names=["layers"] * 2, fails="movement"),
    Call("remove", controls.remove, "0", nn.Linear, names=["layers"] * 2, fails="movement"),
    Call("no_positions", controls.no_positions, fails="metric"),
    Call("uniform_attention", controls.uniform_attention, fails="metric"),
    Call("shuffle_labels", controls.shuffle_labels, fails="metric"),
    Call("scale_gradient", controls.scale_gradient, layer="0", factor=0.5, fails="movement"),
    *[Call(name, getattr(sabotage, name)) for name in sabotage.BUGS],
]
TESTS = [
    *[
        Call(
            n,
            getattr(testing, n),
            lambda: T.sin,
            lambda: leaf(2),
            names=["function", "inputs|input"],
            eps=1e-6,
            atol=1e-5,
            rtol=1e-3,
            seed=0,
        )
        for n in ("gradcheck", "gradgradcheck")
    ],
    Call(
        "assert_close",
        testing.assert_close,
        lambda: f(2),
        lambda: f(2),
        names=["actual", "expected"],
        rtol=1e-3,
        atol=1e-3,
        equal_nan=False,
        check_dtype=True,
        check_device=True,
    ),
    Call(
        "compare",
        compare,
        lambda: train,
        ["cpu", "cpu"],
        called="compare|device",
        names=["train", "devices|device"],
        seed=0,
        updates=1,
        dtype=T.float32,
        progress=None,
    ),
    Call("difference", difference, lambda: np.ones(2), lambda: np.ones(2), names=["actual", "expected"]),
    Call(
        "examine",
        parity.examine,
        "cpu",
        names=["device|spec"],
        ops=("add",),
        progress=None,
        called="examine|doctor|device",
    ),
]
DEVICES = [
    Call("register", backends.register, "mine", "module:Class", names=["name", "factory"], library=""),
    Call("unregister", backends.unregister, "sycl", names=["name"]),
    Call("device_of", backends.device_of, lambda: np.ones(2), names=["array|registered"]),
    Call("families", backends.families),
    Call("default_device", backends.default_device),
    Call("map_tree", backends.map_tree, lambda: str, lambda: [1], names=["function", "tree"]),
    method("keep_memory", False, made=lambda: object.__new__(backends.Device), names=["keep"]),  # of no process
    method("stream", made=lambda: backends.device("cpu")),
    method("synchronize", made=lambda: backends.device("cpu")),
    method("wait", lambda: backends.Stream(), made=lambda: backends.device("cpu").stream(), names=["other"]),
    method("default_dtypes", made=T.__array_namespace_info__, device="cpu", called="default_dtypes|device"),
    method("dtypes", made=T.__array_namespace_info__, device="cpu", kind="numeric", called="dtypes|device|isdtype"),
    method("capabilities", made=T.__array_namespace_info__),
]
for call in DEVICES:
    if call.name in ("keep_memory", "stream", "synchronize", "wait"):
        call.function.__module__ = "tinytorch.backends"
MODES = [
    Call("debug", T.debug, False, names=["mode"]),
    Call("no_grad", T.no_grad, lambda: print, names=["function"]),
    Call("enable_grad", T.enable_grad, lambda: print, names=["function"]),
    Call("set_grad_enabled", T.set_grad_enabled, True, names=["mode"]),
    Call("is_grad_enabled", T.is_grad_enabled),
]
ROWS = [*OPTIMIZERS, *MODULES, *TENSORS, *PROOFS, *TESTS, *DEVICES, *MODES]
ALL = [
    *functions.op_calls(),
    *functions.CALLS,
    *functions.LAYERS,
    *functions.LAYER_CALLS,
    *functions.METHODS,
    *ROWS,
]

CALLED = {"train", "function", "progress", "loss", "metric", "train_metric", "optimizer"}  # whose own errors
# come out: they are the user's
ANY = {"class", "module", "function"}  # can be called
VALUES = {kind for kind in functions.WRONG if kind not in functions.KINDLESS | {"None"}} | {
    "complex",
    "dict",
}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """What a wrong call registers or sets is forgotten."""
    registry = importlib.import_module("tinytorch.backends.registry")
    for name in ("_families", "_devices", "_refused"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())
    yield
    tinytorch.debug(False)
    tinytorch.set_grad_enabled(True)


@pytest.mark.parametrize("call", ROWS, ids=repr)
def test_only_the_librarys_own_errors_come_out(call):
    if call.name != "cuda":
        call.function(*map(made, call.args), **{k: made(v) for k, v in call.kwargs.items()})
    wrong = []
    for argument, kind, args, kwargs in functions.attempts(call):
        if argument in CALLED and kind in ANY:
            continue
        found = complaint(call, argument, kind, args, kwargs)
        differs = call.name in ("assert_close", "gradcheck", "gradgradcheck") and kind in VALUES
        if found and not (differs and re.search(rf"(Assertion|Gradcheck)Error: {call.name}: ", found)):
            wrong.append(f"{argument} = {kind}: {found}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


BELOW = "tinytorch.backends", "tinytorch.dtypes"  # know nothing of `words`: of too many arguments Python itself says it
BARE = {"Tensor", "Parameter"}  # made so often that a look at each call would cost


@pytest.mark.parametrize(
    "call",
    [
        c
        for c in ALL
        if not c.name.startswith(("__", "assign"))
        and c.name not in BARE
        and not getattr(c.function, "__module__", "").startswith(BELOW)
    ],
    ids=repr,
)
def test_an_argument_too_many_is_refused_in_words(call):
    wrong = [
        found for _, kind, args, kwargs in functions.unbound(call) if (found := complaint(call, "", kind, args, kwargs))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "call",
    [c for c in ALL if c.name in BARE or getattr(c.function, "__module__", "").startswith(BELOW)],
    ids=repr,
)
def test_an_argument_too_many_for_these_names_the_function_that_was_called(call):
    for _, _, args, kwargs in functions.unbound(call):
        if call.name == "result_type" and not kwargs:  # takes any number
            continue
        with pytest.raises(TypeError, match=rf"^(\w+\.)?{call.name}(\.__init__)?\(\)"):
            call.function(*args, **kwargs)


@pytest.mark.parametrize("call", ALL, ids=repr)
def test_what_is_true_or_false_is_nothing_else(call):
    """The string "False" is true to Python."""
    taken = []
    for place, right in [*enumerate(call.args), *call.kwargs.items()]:
        if not isinstance(right, bool):
            continue
        for wrong in ("False", 1.5, [1], object()):
            args, kwargs = [made(a) for a in call.args], {k: made(v) for k, v in call.kwargs.items()}
            (args if isinstance(place, int) else kwargs)[place] = wrong
            try:
                call.function(*args, **kwargs)
                taken.append(f"{place} = {wrong!r}")
            except TypeError:
                pass
    assert not taken, ", ".join(taken)


MODULES_OF = [
    "",
    ".backends",
    ".data",
    ".nn",
    ".nn.init",
    ".ops",
    ".parity",
    ".optim",
    ".random",
    ".testing",
    ".verify",
    ".verify.sabotage",
    ".creation",
    ".dtypes",
    ".namespace",
]
WHY_NOT = {
    "no function, or a type": {
        "Array",
        "Bug",
        "BUGS",
        "bool",
        "e",
        "inf",
        "nan",
        "pi",
        "newaxis",
        "__array_api_version__",
    },
    "what the library itself makes": {
        "Card",
        "Comparison",
        "Diagnosis",
        "Difference",
        "Fault",
        "First",
        "FirstLine",
        "Other",
        "Run",
        "Step",
        "DeviceInfo",
    },
    "its arguments are those of a function of the user": {"compare_program"},
    "an error": {"CannotCompile", "Unavailable", "GradcheckError", "BrokenTraining", "NotTheSameRun"},
    "made by device(...) and .stream()": {"Device", "Stream"},
    "for subclasses to define or call": {"forward", "extra_repr", "check", "check_number", "numbers", "update"},
    "takes nothing": {"Identity", "Module", "__array_namespace_info__", "devices", "usable_devices"},
}


def test_no_public_function_is_forgotten():
    called = {id(getattr(c.function, "__wrapped__", c.function)) for c in ALL}
    names, needless = {c.name for c in ALL}, set().union(*WHY_NOT.values())
    forgotten = []
    for module in MODULES_OF:
        found = importlib.import_module(f"tinytorch{module}")
        for name in found.__all__:
            x = getattr(found, name)
            known = id(getattr(x, "__wrapped__", x)) in called or (isinstance(x, type) and name in names)
            if not (known or name in needless or isinstance(x, types.ModuleType | np.dtype)):
                forgotten.append(f"tinytorch{module}.{name}")
    for cls in (Tensor, nn.Module, nn.ModuleList, optim.Optimizer, verify.Report):
        for name, x in vars(cls).items():
            known = name.startswith("_") or name in names | needless or id(getattr(x, "__wrapped__", x)) in called
            if callable(x) and not known:
                forgotten.append(f"{cls.__name__}.{name}")
    assert not forgotten

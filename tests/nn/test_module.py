"""Module: finding parameters, moving and freezing them, saving and loading, and what goes wrong without harm."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn
from tinytorch.nn import Module, ModuleList, Parameter, Sequential
from tinytorch.testing import assert_close


class Block(Module):
    """A parameter, a buffer, a child and a setting."""

    def __init__(self, device=None):
        self.linear = nn.Linear(2, 3, device=device)
        self.scale = Parameter([2.0, 3.0, 4.0], device=device)
        self.register_buffer("shift", tinytorch.ones(3, device=device))
        self.steps = [1, 2, 3]

    def forward(self, x):
        return self.linear(x) * self.scale + self.shift


class Model(Module):
    def __init__(self, device=None):
        self.first = Block(device)
        self.rest = Sequential(nn.Linear(3, 3, device=device), nn.ReLU(), nn.Linear(3, 1, bias=False, device=device))

    def forward(self, x):
        return self.rest(self.first(x))


PARAMETERS = [
    "first.scale",
    "first.linear.weight",
    "first.linear.bias",
    "rest.0.weight",
    "rest.0.bias",
    "rest.2.weight",
]


def state_of(model):
    return {name: value.copy() for name, value in model.state_dict().items()}


# Finding ----------------------------------------------------------------------------------------------------------


def test_parameters_have_the_path_to_them_and_an_order():
    model = Model()
    found = dict(model.named_parameters())
    assert list(found) == PARAMETERS
    assert all(isinstance(p, Parameter) and p.requires_grad for p in found.values())
    assert [id(p) for p in model.parameters()] == [id(p) for p in found.values()]
    assert found["rest.2.weight"].name == "rest.2.weight"


def test_modules_and_children():
    model = Model()
    paths = ["", "first", "first.linear", "rest", "rest.0", "rest.1", "rest.2"]
    assert [name for name, _ in model.named_modules()] == paths
    assert [type(m).__name__ for m in model.children()] == ["Block", "Sequential"]
    assert dict(model.named_children())["first"] is model.first
    assert next(iter(model.modules())) is model


def test_buffers_are_state_but_are_not_learned():
    model = Model()
    assert [name for name, _ in model.named_buffers()] == ["first.shift"]
    assert next(iter(model.buffers())) is model.first.shift
    assert "first.shift" in model.state_dict()
    assert not model.first.shift.requires_grad
    with pytest.raises(TypeError, match="register_buffer: tensor is a Tensor or None, not list"):
        model.register_buffer("mask", [1.0])
    assert not hasattr(model, "mask")
    model.first.shift = None  # a buffer that is not there is not saved
    assert "first.shift" not in model.state_dict()
    model.first.shift = 1.0
    with pytest.raises(TypeError, match=r"shift is a buffer: a Tensor or None, not 1\.0"):
        model.state_dict()


def test_a_tensor_does_not_take_the_place_of_a_parameter():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear\.weight is a Parameter.*assign a Parameter, or weight\.data = "):
        layer.weight = layer.weight * 2
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_what_is_shared_is_found_once_and_saved_wherever_it_stands():
    inner = nn.Linear(2, 2)
    model = Sequential(inner, nn.ReLU(), inner, nn.Linear(2, 2))
    model[3].weight = inner.weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "3.bias"]
    assert len(list(model.modules())) == 4
    paths = ["0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"]
    assert sorted(model.state_dict()) == sorted(paths)
    model(tinytorch.ones((1, 2))).sum().backward()
    new = state_of(model)
    for name in ("0.weight", "2.weight", "3.weight"):
        new[name] = np.full((2, 2), 7.0, "float32")
    model.load_state_dict(new)
    assert model[3].weight is model[2].weight is inner.weight
    assert inner.weight.tolist() == [[7.0, 7.0], [7.0, 7.0]]


def test_a_shared_buffer_is_found_once():
    block = Block()
    assert [name for name, _ in Sequential(block, block).named_buffers()] == ["0.shift"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: [nn.Linear(1, 1)], "list"),
        (lambda: (1, Parameter([1.0])), "tuple"),
        (lambda: {"a": nn.ReLU()}, "dict"),
    ],
    ids=["list", "tuple", "dict"],
)
def test_modules_in_a_plain_container_are_refused_not_overlooked(value, kind):
    model = Model()
    model.first.layers = value()
    message = rf"Block\.layers is a {kind} of modules or parameters, which are not found there; make it a ModuleList"
    for call in (lambda: list(model.parameters()), model.state_dict, lambda: model.to("cpu"), model.eval):
        with pytest.raises(TypeError, match=message):
            call()


def test_an_attribute_set_anew_takes_the_place_of_the_old_one():
    model = Model()
    model.first.linear = nn.Linear(2, 3, bias=False)
    model.first.scale = Parameter([1.0])
    model.rest = None
    assert [name for name, _ in model.named_parameters()] == ["first.scale", "first.linear.weight"]
    assert model.first.scale.shape == (1,)


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        Module()(Tensor([1.0]))


def test_calling_passes_everything_on():
    class Add(Module):
        def forward(self, a, b, *, c):
            return a + b + c

    assert Add()(1, 2, c=3) == 6


# Containers -------------------------------------------------------------------------------------------------------


def test_sequential_takes_modules_or_one_list_of_them():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    x = tinytorch.ones((4, 2))
    expected = layers[2](layers[1](layers[0](x)))
    for model in (Sequential(*layers), Sequential(layers), Sequential(layer for layer in layers)):
        assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert_close(model(x).detach(), expected.detach(), rtol=0, atol=0)
    assert Sequential()(x) is x
    assert len(Sequential(nn.ReLU())) == 1


def test_a_list_of_modules_is_like_a_list():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    layers = ModuleList([a])
    assert layers.append(b).extend([c]) is layers
    assert (len(layers), layers[0], layers[-1], list(layers)) == (3, a, c, [a, b, c])
    layers[1] = nn.GELU()
    assert [type(m).__name__ for m in layers[1:]] == ["GELU", "Tanh"]
    assert type(Sequential(a, b, c)[:2]) is Sequential
    with pytest.raises(IndexError):
        layers[3]


@pytest.mark.parametrize("make", [Sequential, lambda x: ModuleList().append(x), lambda x: ModuleList([nn.ReLU(), x])])
def test_a_list_of_modules_takes_nothing_else(make):
    with pytest.raises(TypeError, match=r"(Sequential|ModuleList): takes modules, not (int|the function)"):
        make([1] if make is Sequential else lambda x: x)
    layers = ModuleList([nn.ReLU()])
    with pytest.raises(TypeError, match="takes modules, not int"):
        layers[0] = 1


def test_a_container_may_have_parameters_of_its_own():
    class Scaled(Sequential):
        def __init__(self, *modules):
            super().__init__(*modules)
            self.factor = Parameter([2.0])

        def forward(self, x):
            return super().forward(x) * self.factor

    model = Scaled(nn.Linear(1, 1, bias=False))
    assert sorted(name for name, _ in model.named_parameters()) == ["0.weight", "factor"]
    assert sorted(model.state_dict()) == ["0.weight", "factor"]
    model(Tensor([[1.0]])).sum().backward()
    assert model.factor.grad is not None


# Changing all at once ---------------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    model = Model()
    assert all(m.training for m in model.modules())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.first.train()
    assert [m.training for m in model.modules()] == [False, True, True, False, False, False, False]
    assert model.train() is model
    assert all(m.training for m in model.modules())


def test_zero_grad_forgets_gradients():
    model = Model()
    model(tinytorch.ones((1, 2))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_frozen_part_gets_no_gradient():
    model = Model()
    assert model.first.requires_grad_(False) is model.first
    model(tinytorch.ones((1, 2))).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == PARAMETERS[3:]


def test_apply_calls_children_first():
    seen = []
    model = Model()
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert sorted(seen) == sorted(type(m).__name__ for m in model.modules())
    assert seen[-1] == "Model"
    assert seen.index("Linear") < seen.index("Sequential")


def test_to_moves_everything_and_keeps_the_objects(device):
    model = Model("cpu")
    x = tinytorch.ones((1, 2), device="cpu")
    expected = model(x)
    expected.sum().backward()
    before = dict(model.named_parameters())
    grads = {name: p.grad.tolist() for name, p in before.items()}
    assert model.to(device) is model
    for name, p in model.named_parameters():
        assert p is before[name]
        assert {p.device.name, p.grad.device.name} == {device}
        assert p.grad.tolist() == grads[name]
        assert p.is_leaf
    assert model.first.shift.device.name == device
    assert_close(model(x.to(device)).detach().cpu(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_to_a_dtype_leaves_integers_as_they_are():
    model = Model("cpu")
    model.register_buffer("count", Tensor([3]))
    model.to("float64")
    assert {p.dtype.name for p in model.parameters()} == {"float64"}
    assert (model.first.shift.dtype.name, model.count.dtype.name) == ("float64", "int64")
    with pytest.raises(TypeError, match="to: a module has a floating dtype, not int32"):
        model.to("int32")
    assert model.to("cpu", dtype="float32").first.scale.dtype.name == "float32"


def test_a_module_that_cannot_be_moved_stays_whole(strict):
    model, device = Model("cpu"), strict("no_float64")
    model.first.shift = model.first.shift.to("float64")  # after parameters that could be moved
    before = {name: p.array for name, p in model.named_parameters()}
    with pytest.raises(TypeError, match=f"{device} has no float64"):
        model.to(device)
    assert all(p.array is before[name] and p.device.name == "cpu" for name, p in model.named_parameters())


# Saving and loading -----------------------------------------------------------------------------------------------


def test_a_state_dict_is_a_copy_on_the_host(device):
    model = Model(device)
    state = model.state_dict()
    assert sorted(state) == sorted([*PARAMETERS, "first.shift"])
    assert all(type(v) is np.ndarray for v in state.values())
    state["first.scale"][:] = 0
    assert model.first.scale.tolist() == [2.0, 3.0, 4.0]


def test_loading_gives_back_what_was_saved(device):
    model, twin = Model("cpu"), Model(device)
    x = tinytorch.randn(4, 2, device="cpu")
    parameter = twin.first.scale
    result = twin.load_state_dict(model.state_dict())
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert twin.first.scale is parameter
    assert_close(twin.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert_close(twin(x.to(device)).detach().cpu(), model(x).detach(), rtol=1e-5, atol=1e-6)


def test_loading_takes_tensors_and_other_dtypes():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": Tensor([[1.0, 2.0]], "float64", requires_grad=True), "bias": [3]})
    assert (model.weight.tolist(), model.bias.tolist(), model.weight.dtype.name) == ([[1.0, 2.0]], [3.0], "float32")


def test_loading_does_not_share_what_it_was_given():
    model, given = nn.Linear(1, 1, bias=False), {"weight": np.ones((1, 1), "float32")}
    model.load_state_dict(given)
    given["weight"][:] = 9
    assert model.weight.item() == 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda s: s.pop("rest.0.bias"),
            KeyError,
            r"missing \['rest\.0\.bias'\], unexpected nothing; pass strict=False",
        ),
        (lambda s: s.update(extra=1), KeyError, r"missing nothing, unexpected \['extra'\]"),
        (
            lambda s: s.update({"rest.2.weight": np.zeros((3, 1))}),
            ValueError,
            r"load_state_dict: rest\.2\.weight is \(3, 1\), not \(1, 3\)",
        ),
        (
            lambda s: s.update({"rest.2.weight": np.zeros((1, 4)), "first.shift": np.zeros(())}),
            ValueError,
            r"rest\.2\.weight is \(1, 4\), not \(1, 3\)",
        ),
        (lambda s: s.update({"rest.2.weight": np.array([["a"] * 3])}), TypeError, "there is no dtype"),
    ],
    ids=["missing", "unexpected", "shape", "shapes", "no-numbers"],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    model = Model()
    before = state_of(model)
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    if error is ValueError:
        with pytest.raises(error, match=message):
            model.load_state_dict(state, strict=False)
        assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_loading_what_there_is():
    model = Model()
    before = state_of(model)
    result = model.load_state_dict({"first.scale": np.zeros(3), "extra": np.zeros(1)}, strict=False)
    assert result.unexpected_keys == ["extra"]
    assert sorted(result.missing_keys) == sorted(before.keys() - {"first.scale"})
    assert model.first.scale.tolist() == [0.0, 0.0, 0.0]
    assert_close(model.rest[0].weight.tolist(), before["rest.0.weight"].tolist())


def test_joined_projections_of_the_wrong_shape_change_nothing():
    attention = nn.MultiHeadAttention(4, 2)
    before = state_of(attention)
    with pytest.raises(ValueError, match=r"in_proj_weight is \(8, 4\), not \(12, 4\)"):
        attention.load_state_dict({**before, "out_proj.bias": np.ones(4), "in_proj_weight": np.ones((8, 4))})
    assert_close(attention.state_dict(), before, rtol=0, atol=0)


# Showing ----------------------------------------------------------------------------------------------------------


def test_the_repr_is_a_tree():
    assert repr(Model()) == (
        "Model(\n"
        "  (first): Block(\n"
        "    (linear): Linear(in_features=2, out_features=3, bias=True)\n"
        "  )\n"
        "  (rest): Sequential(\n"
        "    (0): Linear(in_features=3, out_features=3, bias=True)\n"
        "    (1): ReLU()\n"
        "    (2): Linear(in_features=3, out_features=1, bias=False)\n"
        "  )\n"
        ")"
    )


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (lambda: nn.Conv2d(1, 2, 3), "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))"),
        (
            lambda: nn.Conv2d(4, 2, (1, 2), 2, 1, 3, 2, False),
            "Conv2d(4, 2, kernel_size=(1, 2), stride=(2, 2), padding=(1, 1), dilation=(3, 3), groups=2, bias=False)",
        ),
        (lambda: nn.MaxPool2d(2), "MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))"),
        (lambda: nn.AvgPool2d(2, 1), "AvgPool2d(kernel_size=(2, 2), stride=(1, 1), padding=(0, 0))"),
        (lambda: nn.Embedding(5, 2), "Embedding(5, 2)"),
        (lambda: nn.PositionalEncoding(2, 8), "PositionalEncoding(2, max_len=8, learned=False)"),
        (lambda: nn.LayerNorm(2), "LayerNorm((2,), eps=1e-05, elementwise_affine=True)"),
        (lambda: nn.Dropout(0.1), "Dropout(p=0.1)"),
        (lambda: nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (lambda: nn.Softmax(0), "Softmax(dim=0)"),
        (lambda: nn.GELU(), "GELU(approximate='none')"),
        (lambda: nn.MSELoss(reduction="sum"), "MSELoss(reduction='sum')"),
    ],
    ids=lambda x: x.partition("(")[0] if isinstance(x, str) else "",
)
def test_the_repr_says_what_a_layer_was_made_with(module, text):
    assert repr(module()) == text


# Containers and cycles ---------------------------------------------------------------------------------------------


class Words(Module):
    def __init__(self, held):
        self.layer = nn.Linear(2, 2)
        self.held = held


WORDS = [f"word {i}" for i in range(1000)]
LARGE = {
    "list": lambda: list(WORDS),
    "dict": lambda: {w: i for i, w in enumerate(WORDS)},
    "tuple": lambda: tuple(WORDS),
    "set": lambda: set(WORDS),
    "pairs": lambda: [(w, float(i)) for i, w in enumerate(WORDS)],
    "lists": lambda: {w: [1, [i]] for i, w in enumerate(WORDS)},
}
WALKS = [
    lambda m: list(m.parameters()),
    lambda m: m.zero_grad(),
    lambda m: m.train(),
    lambda m: list(m.named_modules()),
    lambda m: m.state_dict(),
    lambda m: m.to("cpu"),
]


@pytest.mark.parametrize("held", LARGE)
def test_a_large_container_is_looked_into_once(held, monkeypatch):
    looked = []
    look = nn.module._look_into
    monkeypatch.setattr(nn.module, "_look_into", lambda x, known: looked.append(x) or look(x, known))
    model = Words(LARGE[held]())
    for walk in WALKS * 2:
        walk(model)
    assert [x is model.held for x in looked] == [True]


@pytest.mark.parametrize(
    "layer", [nn.Linear(2, 2), Parameter([1.0]), [nn.Linear(2, 2)]], ids=["module", "parameter", "list"]
)
@pytest.mark.parametrize("walk", WALKS)
def test_a_layer_that_is_put_into_it_later_is_not_overlooked(layer, walk):
    for make, put in (
        (lambda: list(WORDS), lambda held: held.append(layer)),
        (lambda: list(WORDS), lambda held: held.__setitem__(500, layer)),
        (lambda: list(range(1000)), lambda held: held.__setitem__(1, layer)),
        (lambda: {w: i for i, w in enumerate(WORDS)}, lambda held: held.update({"word 7": layer})),
        (lambda: {w: [1, [i]] for i, w in enumerate(WORDS)}, lambda held: held["word 7"][1].append(layer)),
        (lambda: [None] * 4, lambda held: held.__setitem__(2, layer)),
        (lambda: [None] * 4000, lambda held: held.__setitem__(2000, layer)),
        (lambda: [np.zeros(2)] * 40, lambda held: held.__setitem__(3, layer)),
    ):
        model = Words(make())
        walk(model)
        put(model.held)
        with pytest.raises(TypeError, match=r"Words\.held is a (list|dict) of modules or parameters"):
            walk(model)


class Table(dict):
    """A container that is none of Python's own."""


class Row(list):
    """Another one."""


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("own", [Table, Row])
def test_a_container_of_somebody_s_own_is_looked_into_each_time(walk, own):
    for held in (list(WORDS), list(range(3))):
        box = own({7: "word"})
        model = Words([*held, box])
        walk(model)
        walk(model)
        box.update({8: nn.Linear(2, 2)}) if own is Table else box.append(nn.Linear(2, 2))
        with pytest.raises(TypeError, match=r"Words\.held is a list of modules or parameters"):
            walk(model)


def test_another_container_of_the_same_length_is_looked_into():
    model = Words(list(WORDS))
    model.train()
    model.held = [nn.Linear(2, 2)] * len(WORDS)
    with pytest.raises(TypeError, match=r"Words\.held is a list of modules"):
        model.train()


def test_tensors_in_a_large_container_are_not_compared():
    model = Words([Tensor([float(i), 1.0]) for i in range(100)])
    model.train()
    model.held[3] = Tensor([5.0, 6.0])
    model.held[4] = "word"
    with tinytorch.no_grad():
        model.train()


def cyclic():
    """A model whose children refer to it and to each other, and which holds containers that hold themselves."""
    model = Words([1])
    model.held.append(model.held)
    model.table = {"all": model.held}
    model.table["table"] = model.table
    model.children_ = ModuleList([Words(None) for _ in range(12)])
    for child in model.children_:
        child.parent, child.peers = model, model.children_
        child.next = model.children_[0]
    model.me = model
    return model


@pytest.mark.parametrize(
    "call",
    [
        *WALKS,
        lambda m: list(m.named_modules(remove_duplicate=False)),
        lambda m: list(m.named_buffers()),
        lambda m: m.load_state_dict(m.state_dict()),
        lambda m: m.apply(lambda module: None),
        lambda m: m.requires_grad_(False),
        lambda m: m.children_[3].eval(),
        lambda m: m.children_[3].state_dict(),
        repr,
        str,
        copy.deepcopy,
        copy.copy,
        lambda m: tinytorch.SGD(m.parameters(), lr=0.1),
        lambda m: m.to(tinytorch.float64),
    ],
)
def test_what_refers_to_itself_is_walked_once(call):
    call(cyclic())


def test_a_module_that_refers_to_its_parent_has_everything_once():
    model = cyclic()
    names = [
        f"{lead}layer.{name}" for lead in ("", *(f"children_.{i}." for i in range(12))) for name in ("weight", "bias")
    ]
    assert [name for name, _ in model.named_parameters()] == names
    assert sorted(model.state_dict()) == sorted(names)
    assert len(list(model.modules())) == 2 + 1 + 12 * 2
    twin = copy.deepcopy(model)
    assert twin.me is twin is twin.children_[5].parent
    assert twin.held[1] is twin.held
    loop = Words(None)
    loop.me = loop
    assert repr(loop) == ("Words(\n  (layer): Linear(in_features=2, out_features=2, bias=True)\n  (me): Words(...)\n)")
    assert repr(loop) == repr(loop)


def test_a_shared_module_is_still_shown_and_saved_each_time():
    model = Module()
    model.a = model.b = nn.Linear(1, 1)
    assert repr(model).count("Linear(in_features=1") == 2
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_an_error_in_a_layer_names_it_by_its_path_once():
    inner = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 2))
    model = nn.Sequential(nn.Identity(), inner)
    with pytest.raises(ValueError, match=r"linear\(.*in layer 1\.2, Linear\(in_features=4") as caught:
        model(tinytorch.ones((5, 2)))
    assert str(caught.value).count("in layer") == 1
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("wrong", ["shape", "dtype", "device"])
def test_an_error_in_a_layer_names_its_parameters_by_the_same_path(wrong):
    class Block(nn.Module):
        def __init__(self):
            self.first = nn.Linear(2, 3)
            self.second = nn.ModuleList([nn.Linear(4 if wrong == "shape" else 3, 2)])

        def forward(self, x):
            y = self.first(x)
            if wrong == "dtype":
                y = y.astype("float64")
            return self.second[0](y.to(other) if wrong == "device" else y)

    if wrong == "device":
        pytest.importorskip("array_api_strict")
    other = tinytorch.device("strict:device1" if wrong == "device" else "cpu")
    model = nn.Sequential(nn.Identity(), nn.Sequential(Block()))  # nobody has asked for the names of its parameters
    with tinytorch.device("cpu"), pytest.raises((ValueError, TypeError)) as caught:
        nn.Sequential(model)(tinytorch.ones((5, 2), device="cpu"))
    assert re.search(r"'0\.1\.0\.second\.0\.weight' on .*; in layer 0\.1\.0\.second\.0, Linear\(", str(caught.value))
    assert " 'weight'" not in str(caught.value)


def test_errors_of_users_own_modules_stay_as_they_are():
    class Mine(nn.Module):
        def forward(self, x):
            raise ValueError("my own")

    with pytest.raises(ValueError, match=r"^my own$"):
        nn.Sequential(Mine())(tinytorch.ones(2))


def test_a_forward_without_return():
    class Forgets(nn.Module):
        def forward(self, x):
            x * 2

    with pytest.raises(TypeError, match=r"Forgets: forward returned None; end it with `return \.\.\.`"):
        nn.Sequential(Forgets(), nn.ReLU())(tinytorch.ones(2))


def test_a_class_in_place_of_a_module():
    with pytest.raises(TypeError, match=r"Sequential: takes modules, not the class ReLU; make an instance, as in ReLU"):
        nn.Sequential(nn.Linear(2, 2), nn.ReLU)


def test_a_property_says_its_own_error():
    class Broken(Module):
        @property
        def width(self):
            return self.hidden.size

    with pytest.raises(AttributeError, match="hidden"):
        Broken().width  # noqa: B018


def test_an_error_in_a_layer_of_a_plain_list_is_still_its_own():
    class Plain(Module):
        def __init__(self):
            self.layers = [nn.Linear(2, 2)]

        def forward(self, x):
            return self.layers[0](x)

    with pytest.raises(ValueError, match=r"^linear\(float32 \(1, 3\) on cpu, .*last axis of x") as caught:
        Plain()(tinytorch.ones((1, 3)))
    assert "in layer" not in str(caught.value)
    with pytest.raises(ValueError, match=r"in layer 0, Linear\(in_features=2, out_features=2, bias=True\)$"):
        nn.Sequential(nn.Linear(2, 2))(tinytorch.ones((1, 3)))


@pytest.mark.parametrize(
    ("given", "sequential", "modules"),
    [
        ((3,), "takes modules, not int (3)", "modules is a list of modules, not int (3)"),
        ((None,), "takes modules, not None", "modules is a list of modules, not None"),
        ((Tensor([1.0]),), "takes modules, not Tensor of shape (1,)", "modules is a list of modules, not Tensor"),
        (("ab",), "takes modules, not str ('ab')", "takes modules, not str ('a')"),
        (([3],), "takes modules, not int (3)", "takes modules, not int (3)"),
        (([nn.ReLU(), None],), "takes modules, not None", "takes modules, not None"),
        ((nn.ReLU(), 3), "takes modules, not int (3)", "too many positional arguments; there are modules"),
    ],
    ids=str,
)
def test_what_is_no_module_is_said_to_be_none(given, sequential, modules):
    for cls, said in ((nn.Sequential, sequential), (nn.ModuleList, modules)):
        with pytest.raises(TypeError) as caught:
            cls(*given)
        assert str(caught.value).startswith(f"{cls.__name__}: {said}")
    assert len(nn.Sequential(nn.ReLU())) == len(nn.Sequential([nn.ReLU()])) == len(nn.ModuleList([nn.ReLU()])) == 1
    assert (
        len(nn.Sequential(nn.ReLU() for _ in range(3)))
        == len(nn.Sequential(nn.Sequential(*[nn.ReLU()] * 2), nn.Tanh())) + 1
    )


def test_places_in_a_list_of_modules():
    layers = nn.ModuleList([nn.ReLU(), nn.Tanh(), nn.Sigmoid()])
    assert layers[-3] is layers[0] is not layers[-1] is layers[2]
    assert [type(m) for m in layers[1:]] == [nn.Tanh, nn.Sigmoid]
    assert type(layers[:1]) is nn.ModuleList
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"^ModuleList: {index} is no index of 3 modules$"):
            layers[index]
        with pytest.raises(IndexError, match=rf"^ModuleList: {index} is no index of 3 modules$"):
            layers[index] = nn.ReLU()
    with pytest.raises(TypeError, match=r"^ModuleList: index is an integer or a slice, not str \('0'\)$"):
        layers["0"]
    layers[-1] = layers[0]
    assert layers[2] is layers[0]
    with pytest.raises(TypeError, match=r"^ModuleList: takes modules, not int"):
        layers[0] = 3

"""JAX's transformations of functions of tensors: tracers pass through, and a tensor is a node of JAX's trees."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, backends, nn
from tinytorch.backends import tree
from tinytorch.testing import assert_close

pytestmark = pytest.mark.device(only="jax", reason="JAX's transformations")


@pytest.fixture
def jax(device):
    """JAX; new tensors are on its device."""
    with tinytorch.device(device):
        yield pytest.importorskip("jax")


@pytest.fixture
def model(jax):
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def gradients_of(model):
    """A function of one example and its label that gives the gradients of all parameters."""
    criterion, parameters = nn.CrossEntropyLoss(), list(model.parameters())

    def gradients(x, y):
        loss = criterion(model(tinytorch.expand_dims(x, axis=0)), tinytorch.expand_dims(y, axis=0))
        return tinytorch.grad(loss, parameters)

    return gradients


@pytest.mark.parametrize("jitted", [False, True])
def test_per_sample_gradients(jax, model, jitted):
    x, y = tinytorch.randn(5, 3), Tensor([0, 1, 0, 1, 1])
    gradients = gradients_of(model)
    each = jax.vmap(gradients)
    found = (jax.jit(each) if jitted else each)(x, y)
    for i in range(5):
        for g, expected in zip(found, gradients(x[i], y[i]), strict=True):
            assert type(g) is Tensor
            assert_close(g[i], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_jit_compiles_once(jax, model):
    traced = []

    @jax.jit
    def predict(x):
        traced.append(x)
        return model(x)

    for _ in range(3):
        x = tinytorch.randn(2, 3)
        assert_close(predict(x), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(traced) == 1


def test_scan_of_training_steps(jax):
    """State goes in and out as arguments and results, as JAX has it."""
    x, start = tinytorch.randn(8, 3), tinytorch.zeros((3, 1))
    y = x @ Tensor([[1.0], [2.0], [3.0]])

    def step(w, _):
        w = w.detach().requires_grad_()
        loss = tinytorch.square(x @ w - y).mean()
        loss.backward()
        return (w - 0.1 * w.grad).detach(), loss

    w, losses = jax.lax.scan(step, start, None, length=50)
    expected = start
    for _ in range(50):
        expected, loss = step(expected, None)
    assert_close(w, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert losses.shape == (50,)
    assert abs(losses[-1].item() - loss.item()) < 1e-5 < losses[0].item()


def test_a_gradient_of_jax_is_ours(jax):
    x = tinytorch.randn(4)
    ours = tinytorch.grad(tinytorch.sum(tinytorch.tanh(x.requires_grad_()) ** 2), [x])[0]
    theirs = jax.grad(lambda array: (tinytorch.tanh(tinytorch.asarray(array)) ** 2).sum().array)(x.array)
    assert_close(ours, np.asarray(theirs), rtol=1e-5, atol=1e-6)


def test_what_is_a_jax_array_stays_that_very_array(jax, device):
    dev = backends.device(device)

    def same(x):
        assert dev.asarray(x) is x
        assert backends.device_of(x) is dev
        assert tinytorch.asarray(x).array is x
        return x

    jax.jit(same)(jax.numpy.ones(2))
    jax.vmap(same)(jax.numpy.ones(2))
    assert "copy" not in str(jax.make_jaxpr(lambda x: tinytorch.exp(x))(tinytorch.ones(2)))
    assert "device_put" not in str(jax.make_jaxpr(lambda x: tinytorch.exp(x))(tinytorch.ones(2)))


def test_a_tensor_is_a_node_of_a_tree(jax, device):
    layer = nn.Linear(2, 1)
    leaves, structure = jax.tree.flatten({"weight": layer.weight, "x": [Tensor([1.0])]})
    assert leaves[0] is layer.weight.array
    back = jax.tree.unflatten(structure, leaves)
    assert type(back["weight"]) is nn.Parameter
    assert back["weight"].requires_grad
    assert back["weight"].device.name == device
    assert back["weight"].name == layer.weight.name
    assert type(back["x"][0]) is Tensor
    assert not back["x"][0].requires_grad


def test_a_graph_stays_behind(jax):
    x = Tensor([1.0, 1.0], requires_grad=True)
    (copied,) = jax.tree.map(lambda array: array, [x * 2.0])
    assert copied.is_leaf
    assert not copied.requires_grad


def test_a_class_of_tensors_that_comes_later_is_a_node_too(jax):
    class Angle(Tensor):
        pass

    assert type(jax.tree.map(lambda array: array + 1, Angle([1.0]))) is Angle


def test_other_libraries_that_walk_trees_are_told(jax):
    told = {}
    tree.tell(lambda cls, apart, together: told.update({cls: (apart, together)}))
    try:
        apart, together = told[nn.Parameter]
        arrays, rest = apart(nn.Parameter([1.0, 2.0]))
        assert together(rest, arrays).tolist() == [1.0, 2.0]
    finally:
        tree._told.pop()


def test_a_compiled_function_is_transformed_as_it_stands(jax):
    """Its programs are for arrays, and no tracer is recorded."""
    rows = tinytorch.compile(lambda table, i: tinytorch.take(table, i, axis=0) * 2.0)
    table, ids = tinytorch.ones((3, 2)), Tensor([[0, 1], [2, 2]])
    each = jax.vmap(rows, (None, 0))
    for _ in range(4):
        assert each(table, ids).shape == (2, 2, 2)
    assert rows.program is None
    for _ in range(4):
        rows(table, ids[0])
    assert rows.program is not None
    assert each(table, ids).tolist() == jax.jit(each)(table, ids).tolist() == [[[2.0, 2.0]] * 2] * 2


def test_values_of_tracers_are_not_checked(jax):
    """They have none. What is out of range is JAX's to say: NaN."""
    x, i = tinytorch.ones((3, 2)), Tensor([7])
    with pytest.raises(IndexError):
        tinytorch.take(x, i, axis=0)
    assert np.isnan(jax.jit(lambda x, i: tinytorch.take(x, i, axis=0))(x, i).numpy()).all()

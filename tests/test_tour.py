"""The tour: what tinytorch does, from a tensor to an op of your own, each step a test that runs as it stands.

Read it from top to bottom. `device` is a device, such as "cpu" or "cuda:0": every step runs on each that this machine
has. `python -m tinytorch tour` copies this file to where you are, and `python -m pytest test_tour.py` runs it.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Adam, BCEWithLogitsLoss, Linear, Module, MSELoss, Sequential, Tanh, Tensor
from tinytorch.nn import Parameter
from tinytorch.testing import assert_close, gradcheck, gradgradcheck

# 1. Tensors: arrays with a dtype, on a device ---------------------------------------------------------------------


def test_a_tensor_is_an_array(device):
    x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device)
    assert x.shape == (2, 3)
    assert x.dtype == tinytorch.float32  # Python's floats are 32 bits here, as in PyTorch
    assert x.device == tinytorch.device(device)


def test_you_compute_with_it_as_with_numpy(device):
    x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device)
    y = (2 * x - 1)[:, 1:] @ Tensor([[1.0], [10.0]], device=device)
    assert y.tolist() == [[53.0], [119.0]]
    assert x.mean(axis=0).tolist() == [2.5, 3.5, 4.5]
    assert x.reshape(3, 2).T.shape == (2, 3)
    assert tinytorch.where(x > 3, x, 0.0).sum().item() == 15.0


def test_values_come_to_the_host_when_you_ask(device):
    x = tinytorch.arange(3, device=device)
    assert x.tolist() == [0, 1, 2]  # Python
    assert isinstance(x.numpy(), np.ndarray)  # NumPy: a copy, which is yours
    assert x[2].item() == 2


# 2. Gradients -----------------------------------------------------------------------------------------------------


def test_backward_computes_gradients(device):
    w = Tensor([3.0, 4.0], device=device, requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    assert w.grad.tolist() == [6.0, 8.0]  # d loss / d w = 2 w


def test_gradients_add_up_until_you_forget_them(device):
    w = Tensor([3.0], device=device, requires_grad=True)
    for _ in range(2):
        (w * 5).sum().backward()
    assert w.grad.item() == 10.0
    w.grad = None


def test_what_needs_no_gradient_is_not_recorded(device):
    w = Tensor([3.0], device=device, requires_grad=True)
    with tinytorch.no_grad():
        assert not (w * 2).requires_grad
    assert not (w * 2).detach().requires_grad


def test_gradient_descent_in_four_lines(device):
    w = Parameter([10.0], device=device)
    for _ in range(50):
        (g,) = tinytorch.grad(((w - 3) ** 2).sum(), w)
        w.data = w.data - 0.1 * g
    assert w.item() == pytest.approx(3.0, abs=1e-3)


# 3. Layers --------------------------------------------------------------------------------------------------------


def test_a_layer_has_parameters_and_is_called(device):
    layer = Linear(3, 2, device=device)
    assert {name: p.shape for name, p in layer.named_parameters()} == {"weight": (2, 3), "bias": (2,)}
    x = tinytorch.ones((4, 3), device=device)
    assert_close(layer(x).detach(), (x @ layer.weight.T + layer.bias).detach(), rtol=1e-5, atol=1e-6)


class Residual(Module):
    """A layer of your own: its attributes are its parts, `forward` is what it computes."""

    def __init__(self, width):
        self.inner = Sequential(Linear(width, width), Tanh())
        self.scale = Parameter([0.5])

    def forward(self, x):
        return x + self.scale * self.inner(x)


def test_layers_are_made_of_layers(device):
    model = Sequential(Linear(2, 8), Residual(8), Residual(8), Linear(8, 1)).to(device)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == 10
    assert names[2:5] == ["1.scale", "1.inner.0.weight", "1.inner.0.bias"]
    model(tinytorch.ones((5, 2), device=device)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# 4. Learning ------------------------------------------------------------------------------------------------------


def xor(device):
    """The four points that no single layer tells apart, and which are odd."""
    points = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=device)
    return points, Tensor([[0.0], [1.0], [1.0], [0.0]], device=device)


def learn(model, device, steps=200):
    points, odd = xor(device)
    optimizer, criterion = Adam(model.parameters(), lr=0.1), BCEWithLogitsLoss()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(points), odd)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_a_model_learns_xor(device):
    tinytorch.manual_seed(0)
    model = Sequential(Linear(2, 8), Tanh(), Linear(8, 1)).to(device)
    assert learn(model, device) < 0.05
    points, odd = xor(device)
    assert ((model(points) > 0) == (odd > 0.5)).all()


def test_a_line_does_not(device):
    tinytorch.manual_seed(0)
    assert learn(Linear(2, 1, device=device), device) > 0.69  # log(2): no better than a coin


def test_the_same_seed_is_the_same_model_everywhere(device):
    tinytorch.manual_seed(42)
    here = Linear(4, 4, device=device).weight.tolist()
    tinytorch.manual_seed(42)
    assert here == Linear(4, 4, device="cpu").weight.tolist()


# 5. Batches -------------------------------------------------------------------------------------------------------


def test_a_loader_gives_batches(device):
    train, test = tinytorch.data.tinydigits()
    loader = tinytorch.data.DataLoader(train, batch_size=100, shuffle=True, device=device)
    images, labels = next(iter(loader))
    assert (images.shape, labels.shape) == ((100, 1, 8, 8), (100,))
    assert (len(loader), len(test)) == (10, 200)


# 6. Saving --------------------------------------------------------------------------------------------------------


def test_a_model_is_saved_as_plain_arrays(device, tmp_path):
    model, twin = (Sequential(Linear(2, 4), Tanh(), Linear(4, 1)).to(device) for _ in range(2))
    np.savez(tmp_path / "model.npz", **model.state_dict())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as state:
        twin.load_state_dict(state)
    points, _ = xor(device)
    assert_close(twin(points).detach(), model(points).detach(), rtol=0, atol=0)


# 7. Devices -------------------------------------------------------------------------------------------------------


def test_every_device_is_listed_with_a_reason_if_it_cannot_be_used():
    for info in tinytorch.devices():
        assert info.usable or info.reason, info.name


def test_tensors_and_models_move(device):
    model, x = Linear(2, 1), tinytorch.ones((1, 2))
    model.to(device)  # a model moves in place, and an optimizer that has its parameters goes on
    x = x.to(device)  # a tensor moves to a new one
    loss = MSELoss()(model(x), tinytorch.zeros((1, 1), device=device))
    loss.backward()
    assert model.weight.grad.device == x.device
    assert loss.cpu().device == tinytorch.device("cpu")


def test_you_choose_where_new_tensors_live(device):
    with tinytorch.device(device):
        assert tinytorch.zeros(3).device == tinytorch.device(device)
        assert Linear(1, 1).weight.device == tinytorch.device(device)
    # or for the whole program: tinytorch.set_default_device("cuda"), or the environment variable TINYTORCH_DEVICE


def test_devices_are_never_mixed_by_accident(device_pair):
    one, other = device_pair
    x, y = Tensor([1.0], device=one), Tensor([2.0], device=other)
    with pytest.raises(ValueError, match="are on different devices; move the second one with"):
        x + y
    assert (x + y.to(one)).item() == 3.0


# 8. Gradients of gradients ----------------------------------------------------------------------------------------


def test_gradients_can_be_differentiated(device):
    x = Tensor([2.0], device=device, requires_grad=True)
    (first,) = tinytorch.grad(x**3, x, create_graph=True)
    (second,) = tinytorch.grad(first, x, create_graph=True)
    (third,) = tinytorch.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (12.0, 12.0, 6.0)  # 3 x**2, 6 x, 6


def test_a_penalty_on_gradients_is_a_loss_like_any_other(device):
    model = Sequential(Linear(2, 8), Tanh(), Linear(8, 1)).to(device)
    x = tinytorch.randn(5, 2, device=device, requires_grad=True)
    (slope,) = tinytorch.grad(model(x).sum(), x, create_graph=True)
    ((slope**2).sum(axis=1).mean() - 1.0).backward()
    assert model[0].weight.grad.abs().sum().item() > 0


# 9. An op of your own ---------------------------------------------------------------------------------------------


def test_an_op_is_its_result_and_a_rule_for_each_tensor(device):
    from tinytorch.autograd import op

    @op
    def swish(dev, x, slope, /):
        """x * sigmoid(slope * x): one function in the array API standard's names, for every device."""
        xp = dev.xp
        s = 1.0 / (xp.exp(-slope * x) + 1.0)
        return (
            x * s,
            lambda g: g * (s + x * slope * s * (1.0 - s)),  # gradient of x
            lambda g: g * x * x * s * (1.0 - s),  # gradient of slope: the engine undoes broadcasting
        )

    x, slope = tinytorch.randn(3, 4, device=device), Tensor([1.5], device=device)
    expected = x * tinytorch.sigmoid(x * 1.5)
    assert_close(swish(x, slope), expected, rtol=1e-5, atol=1e-6)
    inputs = [t.cpu().astype("float64").requires_grad_() for t in (x, slope)]
    assert gradcheck(swish, inputs)  # against differences of the function
    assert gradgradcheck(swish, inputs)  # the second order comes from the same rules

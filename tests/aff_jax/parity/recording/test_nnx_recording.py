"""NNX modules: their calls are recorded, they are compared with PyTorch, and they do not change."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from aff_jax import parity
from aff_jax.parity.recording.nnx_recording import inspect_nnx, is_nnx, record_nnx, state_of_nnx
from aff_jax.parity.recording.recorder import Inputs
from tests.aff_jax.convert.states import images, randomized


class TorchCNN(torch.nn.Module):
    """A convolution with a norm, dropout, and a list of dense layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(2)])
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        for layer in self.layers:
            x = torch.tanh(self.dropout(layer(x)))
        return x


class Affine(nnx.Linear):
    """A dense layer by another class, which calls the method of its base class."""

    def __call__(self, x):
        return super().__call__(x)


class CNN(nnx.Module):
    """The NNX module with the same layers."""

    def __init__(self, epsilon=1e-5):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs)
        self.norm = nnx.BatchNorm(4, epsilon=epsilon, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs), Affine(4, 4, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).mean((1, 2))
        for layer in self.layers:
            x = jnp.tanh(self.dropout(layer(x)))
        return x


def copy_weights(torch_module, module):
    """Copy the weights of PyTorch to the NNX module."""
    arrays = {name: jnp.asarray(v.numpy()) for name, v in torch_module.state_dict().items()}
    module.conv.kernel[...] = arrays["conv.weight"].transpose(2, 3, 1, 0)
    module.conv.bias[...] = arrays["conv.bias"]
    module.norm.scale[...] = arrays["norm.weight"]
    module.norm.bias[...] = arrays["norm.bias"]
    module.norm.mean[...] = arrays["norm.running_mean"]
    module.norm.var[...] = arrays["norm.running_var"]
    for index, layer in enumerate(module.layers):
        layer.kernel[...] = arrays[f"layers.{index}.weight"].T
        layer.bias[...] = arrays[f"layers.{index}.bias"]
    return module


@pytest.mark.parametrize("float64", [False, True])
def test_a_network_is_equal_and_not_changed(float64):
    torch_module = randomized(TorchCNN())
    module = copy_weights(torch_module, CNN())
    methods = {kind: vars(kind).get("__call__") for kind in (CNN, Affine, nnx.Linear, nnx.Conv)}
    result = parity.compare(torch_module, module, None, images(2, 5, 6, 3), float64=float64)
    assert result.equal
    assert result.explanation == ""
    assert result.unmatched == []
    expected = ["conv", "norm", "layers.0", "dropout", "layers.1", "dropout", ""]
    assert [row.name for row in result.rows] == expected
    assert [row.path for row in result.rows][2] == "layers/0"
    assert not module.dropout.deterministic
    assert not module.norm.use_running_average
    assert not hasattr(module.conv, "_aff_jax_path")
    assert module.conv.kernel.dtype == jnp.float32
    assert {kind: vars(kind).get("__call__") for kind in methods} == methods


def test_a_mistake_is_found_at_its_layer():
    torch_module = randomized(TorchCNN())
    module = copy_weights(torch_module, CNN(epsilon=1e-3))
    result = parity.compare(torch_module, module, None, images(2, 5, 6, 3), float64=True)
    assert result.first_mismatch.path == "norm"
    assert "gets the same input in both networks" in result.explanation
    assert "`epsilon` is 0.001, PyTorch's is 1e-05" in result.explanation

    module = copy_weights(torch_module, CNN())
    module.layers[1].kernel[...] = module.layers[1].kernel.T
    result = parity.compare(torch_module, module, None, images(2, 5, 6, 3), float64=True)
    assert result.first_mismatch.path == "layers/1"
    assert "`kernel` has PyTorch's values with axes 0 and 1 swapped" in result.explanation
    assert "With PyTorch's weights the layer agrees" in result.explanation
    assert module.norm.epsilon == 1e-5


class TorchLookup(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.block = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 3)

    def forward(self, tokens):
        return self.block(self.block(self.embed(tokens)))


class Lookup(nnx.Module):
    """Integers as inputs, and a layer inside `nnx.remat` that runs twice."""

    def __init__(self):
        self.table = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
        self.block = nnx.Linear(3, 3, rngs=nnx.Rngs(1))

    def __call__(self, tokens):
        run = nnx.remat(lambda block, x: block(x))
        return run(self.block, run(self.block, self.table(tokens)))


def test_integers_names_and_transformations():
    torch_module, module = TorchLookup(), Lookup()
    module.table.embedding[...] = jnp.asarray(torch_module.embed.weight.detach().numpy())
    module.block.kernel[...] = jnp.asarray(torch_module.block.weight.detach().numpy().T)
    module.block.bias[...] = jnp.asarray(torch_module.block.bias.detach().numpy())
    tokens = np.array([[0, 3, 2]])
    result = parity.compare(torch_module, module, None, tokens, rename={"embed": "table"})
    assert result.equal
    assert [(row.path, row.call) for row in result.rows] == [
        ("table", 1),
        ("block", 1),
        ("block", 2),
        ("", 1),
    ]


def test_classes_are_restored_after_an_error():
    module = CNN()
    before = nnx.Conv.__call__
    with pytest.raises(ValueError, match="7"):
        record_nnx(module, state_of_nnx(module), Inputs((images(1, 5, 6, 7),), {}))
    assert nnx.Conv.__call__ is before
    assert "__call__" in vars(nnx.Conv)


def test_inputs_are_recorded_where_asked_for():
    module, x = CNN(), images(1, 5, 6, 3)
    variables = state_of_nnx(module)
    (calls,) = record_nnx(module, variables, Inputs((x,), {}), inputs_of=("conv", "layers/1"))
    inputs = {call.module: call.inputs for call in calls if call.inputs}
    np.testing.assert_array_equal(inputs["conv"][0], x)
    assert inputs["layers/1"][0].shape == (1, 4)


def test_variables_are_refused():
    module = CNN()
    with pytest.raises(TypeError, match="an NNX module carries its weights"):
        parity.compare(TorchCNN(), module, {"params": {}}, images(1, 5, 6, 3))


def test_structure():
    assert is_nnx(CNN())
    assert not is_nnx(TorchCNN())
    paths = [path for path, _ in inspect_nnx(CNN()).leaves("params")]
    assert ("layers", "0", "kernel") in paths


def test_training_steps_of_nnx_are_refused():
    with pytest.raises(TypeError, match="expected a linen module, got an NNX module"):
        parity.compare_step(
            TorchCNN(),
            CNN(),
            None,
            images(1, 5, 6, 3),
            loss=jnp.sum,
            torch_loss=torch.sum,
            optimizer=None,
            torch_optimizer=torch.optim.SGD,
        )

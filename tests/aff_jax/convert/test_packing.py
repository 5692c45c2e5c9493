"""Attention and recurrent cells compute what PyTorch's modules compute, and convert back."""

import re

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

from aff_jax.convert import from_torch, to_torch
from aff_jax.convert.packing import list_forms
from aff_jax.inspection import inspect_module
from tests.aff_jax.convert.states import assert_same, images


def state_of(module):
    return {key: value.numpy() for key, value in module.state_dict().items()}


def randomized(module):
    """Return the module in float64. PyTorch initializes the biases of attention with zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def sequences(*shape, seed=0):
    return images(*shape, seed=seed).astype(np.float64)


class Attend(nn.Module):
    """Attention of 2 heads that is called as PyTorch's."""

    features: int = 6
    use_bias: bool = True
    qkv_features: int | None = None
    param_dtype: type = np.float32

    @nn.compact
    def __call__(self, query, key, value):
        attention = nn.MultiHeadDotProductAttention(
            2,
            qkv_features=self.qkv_features or self.features,
            out_features=self.features,
            use_bias=self.use_bias,
            param_dtype=self.param_dtype,
            name="attn",
        )
        return attention(query, key, value)


def prefixed(state, prefix="attn."):
    return {prefix + name: array for name, array in state.items()}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 4, "vdim": 7}, {"vdim": 7}])
def test_attention_agrees_with_multihead_attention(use_bias, sizes):
    theirs = randomized(torch.nn.MultiheadAttention(6, 2, bias=use_bias, batch_first=True, **sizes))
    inputs = [
        sequences(2, length, size, seed=length)
        for length, size in ((3, 6), (5, sizes.get("kdim", 6)), (5, sizes.get("vdim", 6)))
    ]
    module, state = Attend(use_bias=use_bias, param_dtype=np.float64), prefixed(state_of(theirs))
    assert ("attn.in_proj_weight" in state) == (not sizes)
    variables = from_torch(state, module, *inputs)
    with torch.no_grad():
        expected = theirs(*map(torch.from_numpy, inputs), need_weights=False)[0].numpy()
    np.testing.assert_allclose(module.apply(variables, *inputs), expected, rtol=0, atol=1e-12)
    assert_same(to_torch(variables, module, *inputs), state)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [nn.SelfAttention, nn.MultiHeadAttention])
@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
def test_other_names_of_attention(kind):
    class Self(nn.Module):
        @nn.compact
        def __call__(self, x):
            return kind(3, param_dtype=np.float64, name="attn")(x)

    theirs, x = randomized(torch.nn.MultiheadAttention(6, 3, batch_first=True)), sequences(2, 4, 6)
    state = prefixed(state_of(theirs))
    variables = from_torch(state, Self(), x)
    with torch.no_grad():
        expected = theirs(*[torch.from_numpy(x)] * 3)[0].numpy()
    np.testing.assert_allclose(Self().apply(variables, x), expected, rtol=0, atol=1e-12)
    assert_same(to_torch(variables, Self(), x), state)


LINEAR = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}


def linear_state(names):
    layers = {name: randomized(torch.nn.Linear(6, 6)).float() for name in names}
    return prefixed(state_of(torch.nn.ModuleDict(layers)))


def test_attention_of_linear_layers_converts_with_and_without_rename():
    x, module = images(2, 4, 6), Attend()
    state = linear_state(LINEAR)
    rename = {f"attn.{old}": f"attn.{new}" for old, new in LINEAR.items()}
    renamed = from_torch(state, module, x, x, x, rename=rename)
    jax.tree.map(np.testing.assert_array_equal, renamed, from_torch(state, module, x, x, x))
    query = state["attn.q_proj.weight"].T.reshape(6, 2, 3)
    np.testing.assert_array_equal(renamed["params"]["attn"]["query"]["kernel"], query)
    # `rename` or `names` say that the layers are not packed.
    assert_same(to_torch(renamed, module, x, x, x, rename=rename), state)
    assert_same(to_torch(renamed, module, x, x, x, names=state), state)
    assert "attn.in_proj_weight" in to_torch(renamed, module, x, x, x)


def test_attention_with_the_names_of_flax():
    x, module, state = images(2, 4, 6), Attend(), linear_state(LINEAR.values())
    variables = from_torch(state, module, x, x, x)
    assert_same(to_torch(variables, module, x, x, x, names=state), state)


def test_attention_that_pytorchs_module_does_not_have_is_written_as_linear_layers():
    x, module = images(2, 4, 6), Attend(qkv_features=4)
    variables = module.init(jax.random.key(0), x, x, x)
    state = to_torch(variables, module, x, x, x)
    assert state["attn.q_proj.weight"].shape == (4, 6)
    assert state["attn.out_proj.weight"].shape == (6, 4)
    jax.tree.map(np.testing.assert_array_equal, from_torch(state, module, x, x, x), variables)


def test_one_layer_for_query_key_and_value_converts_with_rename():
    class Qkv(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = torch.nn.Linear(6, 18), torch.nn.Linear(6, 6)

    x, module, state = images(2, 4, 6), Attend(), prefixed(state_of(Qkv()))
    rename = {
        "attn.qkv.weight": "attn.in_proj_weight",
        "attn.qkv.bias": "attn.in_proj_bias",
        "attn.proj": "attn.out_proj",
    }
    variables = from_torch(state, module, x, x, x, rename=rename)
    assert_same(to_torch(variables, module, x, x, x, rename=rename), state)
    patterns = {re.compile(r"qkv\.(\w+)"): r"in_proj_\1", re.compile(r"\bproj\b"): "out_proj"}
    again = from_torch(state, module, x, x, x, rename=patterns)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert_same(to_torch(again, module, x, x, x, rename=patterns, names=state), state)


def test_packed_arrays_of_other_shapes_are_listed():
    x, state = images(2, 4, 6), prefixed(state_of(torch.nn.MultiheadAttention(6, 2)))
    state["attn.in_proj_bias"] = np.zeros(17)
    with pytest.raises(ValueError, match=r"unexpected  attn.in_proj_bias \(17,\)"):
        from_torch(state, Attend(), x, x, x)
    wide = prefixed(state_of(torch.nn.MultiheadAttention(8, 2)))
    with pytest.raises(ValueError, match=r"attn.query.weight: \(8, 8\), expected \(6, 6\)"):
        from_torch(wide, Attend(), x, x, x)


CELLS = {
    "lstm": (torch.nn.LSTM, torch.nn.LSTMCell, nn.LSTMCell),
    "optimized lstm": (torch.nn.LSTM, torch.nn.LSTMCell, nn.OptimizedLSTMCell),
    "gru": (torch.nn.GRU, torch.nn.GRUCell, nn.GRUCell),
    "rnn": (torch.nn.RNN, torch.nn.RNNCell, nn.SimpleCell),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("compact", "bias"), [(True, True), (False, False)])
def test_recurrent_layers_agree_with_pytorch(name, compact, bias):
    make_theirs, _, make_cell = CELLS[name]

    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):  # the cell has a path beside that of the nn.RNN
            return nn.RNN(make_cell(5, param_dtype=np.float64), name="rnn")(x)

    class Setup(nn.Module):
        def setup(self):
            self.rnn = nn.RNN(make_cell(5, param_dtype=np.float64))

        def __call__(self, x):
            return self.rnn(x)

    module, x = Compact() if compact else Setup(), sequences(2, 4, 3)
    theirs = randomized(make_theirs(3, 5, bias=bias, batch_first=True))
    state = prefixed(state_of(theirs), "rnn.")
    variables = from_torch(state, module, x)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=0, atol=1e-12)
    # The two biases become one; what follows is bit-exact.
    written = to_torch(variables, module, x, names=state)
    assert written.keys() == state.keys()
    jax.tree.map(np.testing.assert_array_equal, from_torch(written, module, x), variables)
    assert_same(to_torch(from_torch(written, module, x), module, x, names=state), written)
    theirs.load_state_dict({key[4:]: torch.from_numpy(value) for key, value in written.items()})
    with torch.no_grad():
        np.testing.assert_allclose(
            theirs(torch.from_numpy(x))[0].numpy(), expected, rtol=0, atol=1e-12
        )
    if bias:
        assert to_torch(variables, module, x).keys() == state.keys()
        if name != "gru":
            assert not written["rnn.bias_hh_l0"].any()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells_agree_with_pytorch(name):
    _, make_theirs, make_cell = CELLS[name]
    theirs, cell = randomized(make_theirs(3, 5)), make_cell(5, param_dtype=np.float64)
    x, h, c = (sequences(2, size, seed=size) for size in (3, 5, 5))
    has_memory = "lstm" in name
    carry = (c, h) if has_memory else h
    hidden = (torch.from_numpy(h), torch.from_numpy(c)) if has_memory else torch.from_numpy(h)
    state = state_of(theirs)
    variables = from_torch(state, cell, carry, x)
    with torch.no_grad():
        output = theirs(torch.from_numpy(x), hidden)
    expected = (output[0] if has_memory else output).numpy()
    np.testing.assert_allclose(cell.apply(variables, carry, x)[1], expected, rtol=0, atol=1e-12)
    assert to_torch(variables, cell, carry, x).keys() == state.keys()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("compact", [True, False])
def test_bidirectional_and_stacked_recurrent_layers(compact):
    def make(number):
        cells = [nn.GRUCell(5, param_dtype=np.float64) for _ in range(2)]
        return nn.Bidirectional(*map(nn.RNN, cells), name=f"layer{number}" if compact else None)

    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            return make(1)(make(0)(x))

    class Setup(nn.Module):
        def setup(self):
            self.layer0, self.layer1 = make(0), make(1)

        def __call__(self, x):
            return self.layer1(self.layer0(x))

    module, x = Compact() if compact else Setup(), sequences(2, 4, 3)
    theirs = randomized(torch.nn.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True))
    state = state_of(theirs)
    rename = {re.compile(r"^(\w+_[ih]h)_l(\d)"): r"layer\2.\1_l0"}
    variables = from_torch(state, module, x, rename=rename)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=0, atol=1e-12)
    written = to_torch(variables, module, x, rename=rename, names=state)
    assert written.keys() == state.keys()


def test_a_missing_bias_of_a_cell_is_listed():
    state = state_of(torch.nn.LSTMCell(3, 5))
    del state["bias_hh"]
    x, h = images(2, 3), images(2, 5)
    with pytest.raises(ValueError, match=r"missing     hi.bias .*(\n.*)*unexpected  bias_ih"):
        from_torch(state, nn.LSTMCell(5), (h, h), x)


def test_the_first_form_is_that_of_pytorchs_module():
    x = images(2, 4, 6)
    (forms,) = list_forms(inspect_module(Attend(), (x, x, x)))
    assert "attn.in_proj_weight" in forms[0].parts
    assert list(forms[-1].parts) == [name for (name,) in forms[-1].parts.values()]

"""Networks that look equal and differ, or look different and are equal."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aff_jax.parity import assert_parity, compare, compare_step

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6)).astype(np.float32)


class TorchNet(torch.nn.Module):
    """Two linear layers and a function between or after them."""

    def __init__(self, function=torch.nn.functional.relu, **buffers):
        super().__init__()
        torch.manual_seed(0)
        self.a = torch.nn.Linear(6, 8)
        self.b = torch.nn.Linear(8, 8)
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        return self.b(self.function(self.a(x)))


class Net(nn.Module):
    function: object = nn.relu
    dtype: object = None

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, dtype=self.dtype, name="a")(x)
        return nn.Dense(8, dtype=self.dtype, name="b")(self.function(x))


@pytest.mark.parametrize("float64", [False, True])
def test_another_activation_in_bfloat16_is_no_rounding(float64):
    result = compare(
        TorchNet(torch.nn.functional.gelu), Net(dtype=jnp.bfloat16), None, X, float64=float64
    )
    assert not result.equal
    assert result.is_too_noisy


def test_same_network_in_bfloat16_is_equal_and_too_noisy():
    result = compare(TorchNet(), Net(dtype=jnp.bfloat16), None, X)
    assert result.equal
    assert result.is_too_noisy


def test_imaginary_parts_are_compared():
    theirs = TorchNet(lambda a: torch.fft.fft(a).imag)
    assert compare(theirs, Net(lambda a: jnp.fft.fft(a).imag), None, X).equal
    result = compare(theirs, Net(lambda a: jnp.fft.fft(a).conj().imag), None, X)
    assert result.first_mismatch.path == "b"


class TorchSpectrum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(6, 8)

    def forward(self, x):
        return torch.fft.fft(self.a(x))


class Spectrum(nn.Module):
    conjugate: bool = False

    @nn.compact
    def __call__(self, x):
        y = jnp.fft.fft(nn.Dense(8, name="a")(x))
        return y.conj() if self.conjugate else y


def test_complex_outputs_are_compared():
    theirs = TorchSpectrum()
    assert compare(theirs, Spectrum(), None, X).equal
    result = compare(theirs, Spectrum(conjugate=True), None, X)
    assert "complex conjugates" in result.explanation


@pytest.mark.parametrize("float64", [False, True])
def test_complex_buffers_keep_their_imaginary_parts(float64):
    angles = torch.linspace(0, 3, 8, dtype=torch.float64)
    turn = torch.polar(torch.ones(8, dtype=torch.float64), angles).to(torch.complex64)

    class Rotated(TorchNet):
        def forward(self, x):
            return self.b((self.a(x) * self.turn).imag)

    theirs = Rotated(turn=turn)
    ours = Net(lambda a: (a * jnp.asarray(turn.numpy())).imag)
    assert compare(theirs, ours, None, X, ignore=["turn"], float64=float64).equal


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = Net(name="net")(x)
        return y, 3 * y


class TorchPair(torch.nn.Module):
    def __init__(self, two):
        super().__init__()
        self.net = TorchNet()
        self.two = two

    def forward(self, x):
        y = self.net(x)
        return (y, 3 * y) if self.two else y


def test_an_output_of_one_side_only_is_a_mismatch():
    assert compare(TorchPair(two=True), Pair(), None, X).equal
    result = compare(TorchPair(two=False), Pair(), None, X)
    assert not result.equal
    assert result.first_mismatch.path == "[1]"
    assert "only in JAX" in result.explanation


def test_ignored_buffers_need_no_counterpart():
    theirs = TorchNet(mask=torch.ones(3))
    assert_parity(theirs, Net(), None, X, ignore=["mask"])


def test_one_array_for_pytorch_is_one_input():
    x = RNG.standard_normal((2, 5, 6)).astype(np.float32)
    assert compare(TorchNet(), Net(), None, x, torch_inputs=torch.from_numpy(x)).equal


def test_inputs_in_the_place_of_the_variables_are_named():
    with pytest.raises(TypeError, match=r"mapping with image and no inputs.*None, inputs"):
        compare(TorchNet(), Net(), {"image": X})


def test_a_value_that_is_nearly_pytorchs_is_not_one_times_it():
    theirs = TorchNet(torch.nn.functional.gelu)
    result = compare(theirs, Net(lambda a: nn.gelu(a, approximate=True)), None, X, tolerance=1e-6)
    assert not result.equal
    assert "1 times" not in result.explanation


def test_given_weights_are_not_claimed_to_be_pytorchs():
    theirs = TorchNet(mask=torch.ones(3))  # whose weights cannot be converted
    variables = Net().init(jax.random.key(0), X)
    result = compare(theirs, Net(), variables, X)
    assert "weights are PyTorch's" not in result.explanation


def test_equal_fields_are_not_blamed_for_a_weight():
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1))

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 3), padding=1, strides=1, name="0")(x)

    x = RNG.standard_normal((1, 6, 6, 3)).astype(np.float32)
    from aff_jax.convert import from_torch

    variables = from_torch(theirs.state_dict(), Ours(), x)
    kernel = variables["params"]["0"]["kernel"]
    variables["params"]["0"]["kernel"] = kernel.at[0, 0, 0, 0].add(1e-6)
    result = compare(theirs, Ours(), variables, x, tolerance=5e-8)
    assert "strides" not in result.explanation


def make_step(theirs, ours, x, variables=None, **options):
    return compare_step(
        theirs,
        ours,
        variables,
        x,
        loss=lambda y: jnp.mean(y**2),
        torch_loss=lambda y: (y**2).mean(),
        optimizer=optax.sgd(0.1),
        torch_optimizer=lambda p: torch.optim.SGD(p, 0.1),
        steps=1,
        float64=True,
        **options,
    )


class TorchTokens(torch.nn.Module):
    """Batch norm over the length: the name ends in 1d, and channels come last."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = torch.nn.Linear(8, 8)
        self.norm = torch.nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(self.a(x).mT).mT


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(8, name="a")(x)
        return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="norm")(x)


def test_layout_of_a_step_is_the_one_that_fits():
    x = RNG.standard_normal((2, 8, 8)).astype(np.float32)
    result = make_step(TorchTokens(), Tokens(), x)
    # PyTorch's running variance is unbiased, and Flax's is not.
    assert all(row.kind == "statistic" for row in result.rows if row.differs)
    assert {row.kind for row in result.rows} >= {"loss", "gradient", "weight"}


def test_weights_that_were_not_compared_leave_a_step_undecided():
    class More(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Net(name="net")(x) + nn.Dense(8, name="more")(x)

    variables = More().init(jax.random.key(0), X)
    result = make_step(TorchPair(two=False), More(), X, variables)
    assert not result.equal
    assert any(name.startswith("more") for name in result.unmatched)

    class TorchMore(TorchPair):
        def __init__(self):
            super().__init__(two=False)
            self.more = torch.nn.Linear(6, 8)

        def forward(self, x):
            return super().forward(x) + 0 * self.more(x)

    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Net(name="net")(x)

    result = make_step(TorchMore(), Inner(), X, ignore=["more.weight", "more.bias"])
    assert not result.equal
    assert "Undecided" in result.to_text()

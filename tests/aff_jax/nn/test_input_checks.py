"""The errors for unsuitable inputs, and for wrong and swapped arguments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import aff_jax
from aff_jax import AFF
from aff_jax.convert import from_mxnet, from_torch, to_torch
from aff_jax.inference import freeze
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.input_checks import check_channels, check_floating, check_images, check_input

MODULE = BatchNorm()
FUSION, VARIABLES, X = AFF(), {"params": {}}, jnp.zeros((1, 8))
HOST = aff_jax.create_model("cifar_resnet8")


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, bool, jnp.complex64])
def test_other_dtypes_are_refused_by_name(dtype):
    array = jnp.ones((2, 3), dtype)
    message = f"BatchNorm: expected floating-point pixels, got {array.dtype} of shape"
    for check in (check_floating, check_input):
        with pytest.raises(TypeError, match=message):
            check(MODULE, pixels=array)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_floating_point_passes(dtype):
    check_input(MODULE, x=jnp.ones((2, 3), dtype), y=jnp.ones((2, 4, 5, 6, 3), dtype))
    check_images(MODULE, jnp.ones((1, 8, 8, 3), dtype))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_an_input_has_a_batch_axis_and_a_channel_axis(shape):
    message = r"expected y of shape \(batch, \*spatial, channels\), .* use y\[None\]"
    with pytest.raises(ValueError, match=message):
        check_input(MODULE, x=jnp.ones((2, 3)), y=jnp.ones(shape))


@pytest.mark.parametrize("shape", [(8, 3), (8, 8, 3), (1, 2, 8, 8, 3)])
def test_images_have_four_axes(shape):
    with pytest.raises(ValueError, match=r"\(batch, height, width, channels\), got \("):
        check_images(MODULE, jnp.ones(shape))


@pytest.mark.parametrize("shape", [(2, 0, 4, 3), (2, 4, 4, 0)])
def test_only_the_batch_may_be_empty(shape):
    for check, name in ((check_input, "x"), (check_images, "images")):
        with pytest.raises(ValueError, match=f"expected {name} with at least one position"):
            check(BatchNorm(), **{name: jnp.ones(shape)})
        check(BatchNorm(), **{name: jnp.ones((0, 4, 4, 3))})


@pytest.mark.parametrize("train", [X, 1, None])
def test_train_is_true_or_false(train):
    image = jnp.zeros((1, 8, 8, 3))
    for module, inputs in ((FUSION, (X, X)), (aff_jax.MSCAM(), (X,)), (HOST, (image,))):
        with pytest.raises(TypeError, match="expected train to be True or False, got"):
            module.apply(VARIABLES, *inputs, train)


def test_a_traced_flag_is_refused_with_what_to_do():
    apply = jax.jit(lambda train: FUSION.apply(VARIABLES, X, X, train))
    with pytest.raises(TypeError, match=r"got .*Tracer.*static_argnames='train'"):
        apply(True)


def test_channels_on_the_first_axis_are_recognized():
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\)\. Probably it has the channels first"):
        check_channels("input_norm", (2, 3, 8, 8), 3)
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\)\. Probably they have the channels first"):
        check_images(MODULE, jnp.ones((2, 3, 8, 8)))
    check_images(MODULE, jnp.ones((2, 3, 8, 4)))  # three rows of eight positions
    rows, conv = jnp.ones((2, 1, 8, 8)), nn.Conv(4, (1, 1))
    check_images(conv.bind(conv.init(jax.random.key(0), rows)), rows)  # a network for such rows


def test_another_number_of_channels_is_not_always_that_of_gray_images():
    with pytest.raises(ValueError, match="Probably the input belongs to another layer"):
        check_channels("local", (2, 8, 8, 32), 64)
    with pytest.raises(ValueError, match="these are gray"):
        check_channels("input_norm", (2, 8, 8, 1), 3)


def test_a_fusion_names_an_input_with_other_channels_than_its_variables():
    x = jnp.ones((2, 4, 4, 8))
    variables = AFF().init(jax.random.key(0), x, x)
    first = jnp.ones((2, 8, 4, 4))
    with pytest.raises(ValueError, match=r"^local: expected 8 channels .* channels first"):
        AFF().apply(variables, first, first)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: aff_jax.save("a.safetensors", FUSION, VARIABLES), r"save\(path.*swapped"),
        (lambda: aff_jax.save(VARIABLES, FUSION, "a.safetensors"), r"expected a path, got a dict"),
        (lambda: aff_jax.save("a.safetensors", VARIABLES, AFF), r"AFF\(\), instead"),
        (lambda: freeze(VARIABLES, FUSION, X, X), r"freeze\(model.*swapped"),
        (lambda: to_torch(FUSION, VARIABLES, X, X), r"to_torch\(variables.*swapped"),
        (lambda: from_torch(FUSION, VARIABLES, X, X), r"from_torch\(source.*swapped"),
        (lambda: from_torch(FUSION, "a.pth", X, X), r"from_torch\(source.*swapped"),
        (lambda: from_mxnet(FUSION, VARIABLES, X, X), r"from_mxnet\(source.*swapped"),
        (lambda: aff_jax.fusion_weights(VARIABLES, FUSION, X, X), "swapped"),
        (lambda: aff_jax.fusion_weights(FUSION, [X], X, X), "got a AFF as the module and a list"),
        (lambda: aff_jax.grad_cam(HOST, VARIABLES, X, 7), r"got 7 where.*train.*classes=7"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()

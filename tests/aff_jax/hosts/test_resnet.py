"""ResNet in torchvision's shape: pinned counts, its blocks in NumPy, jit and pmap, its options."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model
from aff_jax.hosts.resnet import BasicBlock, Bottleneck, ResNet, max_pool
from tests.aff_jax import oracle
from tests.aff_jax.random_variables import random_variables

TINY = {"base_channels": 8, "num_classes": 3}


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def shapes_of(model, shape=(1, 32, 32, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))


# Trainable parameters of open-aff's `aff_pytorch/aff_net/aff_resnet.py` with DAF, AFF and iAFF;
# where only one is given, torchvision's own documentation. The iAFF networks there count a
# `global_att2` that they never read: they are as large as the paper's with its own second branch,
# and so the "paper" reference is what is counted.
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet18", {"add": 11_689_512, "aff": 12_400_232, "iaff": 13_110_952}),
        ("resnet34", {"add": 21_797_672}),
        ("resnet50", {"add": 25_557_032, "aff": 45_789_864, "iaff": 66_022_696}),
        ("resnet101", {"add": 44_549_160}),
        ("resnet152", {"add": 60_192_808}),
        ("resnext50_32x4d", {"add": 25_028_904, "aff": 45_261_736, "iaff": 65_494_568}),
        ("resnext101_32x8d", {"add": 88_791_336, "aff": 126_980_520, "iaff": 165_169_704}),
        ("wide_resnet50_2", {"add": 68_883_240, "aff": 89_116_072, "iaff": 109_348_904}),
        ("wide_resnet101_2", {"add": 126_886_696}),
    ],
)
def test_parameter_counts(name, counts):
    for fusion, count in counts.items():
        assert parameters(create_model(name, fusion, reference="paper")) == count


def test_the_pytorch_reference_has_no_second_global_branch():
    fuse = shapes_of(create_model("resnet18", "iaff", "pytorch"))["params"]["stage1_block0"]["fuse"]
    assert set(fuse) == {"local", "global", "local2"}


def convolve(x, kernel, strides=1, groups=1):
    """A convolution padded by half its kernel, channels last, one window after another."""
    size, ins, outs = kernel.shape[0], x.shape[-1] // groups, kernel.shape[-1] // groups
    margin = size // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = (-(-length // strides) for length in x.shape[1:3])
    result = np.zeros((len(x), height, width, kernel.shape[-1]))
    for row, column, group in np.ndindex(height, width, groups):
        top, left = row * strides, column * strides
        window = padded[:, top : top + size, left : left + size, group * ins : (group + 1) * ins]
        mine = slice(group * outs, (group + 1) * outs)
        result[:, row, column, mine] = np.tensordot(window, kernel[..., mine], 3)
    return result


def pooled(x):
    """Means of 2x2 windows, smaller ones at the edges."""
    rows = [
        [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, x.shape[2], 2)]
        for i in range(0, x.shape[1], 2)
    ]
    return np.moveaxis(np.asarray(rows), 2, 0)


@pytest.mark.parametrize("average_skip", [False, True])
@pytest.mark.parametrize(
    ("block", "options"), [(BasicBlock, {}), (Bottleneck, {"groups": 2, "width_per_group": 32})]
)
def test_a_block_equals_the_formula_in_numpy(block, options, average_skip):
    x = np.float64(normal((2, 5, 6, 6)))
    module = block(
        channels=8, strides=2, average_skip=average_skip, param_dtype=jnp.float64, **options
    )
    with jax.enable_x64(True):
        variables = random_variables(module, x)
        result, seen = jax.jit(
            lambda v, x: module.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
        )(variables, x)
    params, stats = variables["params"], variables["batch_stats"]

    def conv_norm(z, name, **fields):
        z = convolve(z, params[name]["conv"]["kernel"], **fields)
        return oracle.batch_norm(z, params[name]["norm"], stats[name]["norm"], train=False)

    if block is BasicBlock:
        z = oracle.relu(conv_norm(x, "conv1", strides=2))
        residual = conv_norm(z, "conv2")
    else:
        z = oracle.relu(conv_norm(x, "conv1"))
        z = oracle.relu(conv_norm(z, "conv2", strides=2, groups=2))
        residual = conv_norm(z, "conv3")
    identity = (
        conv_norm(pooled(x), "downsample")
        if average_skip
        else conv_norm(x, "downsample", strides=2)
    )
    fused = oracle.aff(residual, identity, params["fuse"], stats["fuse"])
    seen = {name: seen["intermediates"][name]["__call__"][0] for name in ("downsample", "fuse")}
    # Double precision.
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(seen["downsample"], identity, **close)
    np.testing.assert_allclose(seen["fuse"], fused, **close)
    np.testing.assert_allclose(result, oracle.relu(fused), **close)


def test_a_block_that_keeps_the_shape_keeps_its_input_as_the_identity():
    assert "downsample" not in shapes_of(BasicBlock(channels=6), (1, 5, 5, 6))["params"]
    assert "downsample" not in shapes_of(Bottleneck(channels=6), (1, 5, 5, 24))["params"]
    assert "downsample" in shapes_of(Bottleneck(channels=6), (1, 5, 5, 6))["params"]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 7)])
def test_max_pool_ignores_the_margin(size):
    x = normal((2, *size, 3)) - 10
    expected = [
        [
            x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max((1, 2))
            for j in range(0, size[1], 2)
        ]
        for i in range(0, size[0], 2)
    ]
    np.testing.assert_array_equal(max_pool(x), np.moveaxis(np.asarray(expected), 2, 0))


@pytest.mark.parametrize(
    ("small_input", "kernel", "sizes"), [(False, 7, (16, 8, 4)), (True, 3, (32, 16, 8))]
)
def test_small_input_keeps_the_size_in_the_stem(small_input, kernel, sizes):
    model = ResNet(block="basic", blocks_per_stage=(1, 1), small_input=small_input, **TINY)
    _, variables = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, capture_intermediates=True),
        jax.random.key(0),
        jnp.zeros((1, 32, 32, 3)),
    )
    assert variables["params"]["stem"]["conv"]["kernel"].shape == (kernel, kernel, 3, 8)
    seen = variables["intermediates"]
    names = "stem", "stage1_block0", "stage2_block0"
    assert tuple(seen[name]["__call__"][0].shape[1] for name in names) == sizes


def test_fusion_start_leaves_earlier_stages_to_addition():
    params = shapes_of(create_model("resnet18", fusion_start=3))["params"]
    fused = {name for name, block in params.items() if "fuse" in block}
    assert fused == {f"stage{stage}_block{index}" for stage in (3, 4) for index in (0, 1)}


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_with_a_zero_last_scale_a_block_starts_as_its_skip(block):
    module = block(
        channels=2, fusion="add", zero_init_last_scale=True, kernel_init=nn.initializers.ones
    )
    x = normal((1, 4, 4, 2 if block is BasicBlock else 8))
    result, variables = jax.jit(module.init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(result, oracle.relu(x))
    assert variables["params"]["conv1"]["norm"]["scale"].all()


class VariantTest(chex.TestCase):
    """The same numbers with and without jit, on a device, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants_agree(self):
        apply, variables, x, expected = trained()
        result, new = self.variant(apply)(variables, x)
        # Single against double precision through one block.
        np.testing.assert_allclose(result, expected[0], rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(new, expected[1], rtol=1e-4, atol=1e-5)


@functools.cache
def trained():
    """A network in training mode, its arguments, and its result in double precision."""
    x = normal((4, 8, 8, 3))
    model = ResNet(blocks_per_stage=(1,), **TINY)
    variables = random_variables(model, x, dtype=np.float32)

    def apply(variables, x):
        return model.apply(variables, x, True, mutable=["batch_stats"])

    with jax.enable_x64(True):
        expected = jax.jit(apply)(*jax.tree.map(np.float64, (variables, x)))
        return apply, variables, x, jax.tree.map(np.asarray, expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 33)])
def test_takes_odd_and_tiny_sizes(size):
    x = normal((2, *size, 3))
    model = ResNet(block="basic", blocks_per_stage=(1, 1, 1, 1), fusion="add", **TINY)
    logits = jax.jit(model.apply)(random_variables(model, x, dtype=np.float32), x)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "bottelneck"}, "unknown block 'bottelneck'. Did you mean 'bottleneck'"),
        ({"block": "basic", "groups": 2}, "BasicBlock: expected groups=1 .* got 2 and 64"),
        ({"block": "basic", "width_per_group": 4}, "BasicBlock: expected .* got 1 and 4"),
    ],
)
def test_refuses_blocks_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(ResNet(**arguments))


def test_refuses_images_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"ResNet: expected images of shape .* got \(8, 8, 3\)"):
        create_model("resnet18").init(jax.random.key(0), jnp.ones((8, 8, 3)))


@pytest.mark.parametrize(
    ("name", "stem", "widths"),
    [
        ("resnet18", 4, (64, 128, 256, 512)),
        ("resnet50_v1d", 4, (256, 512, 1024, 2048)),
        ("cifar_resnext29_32x4d", 1, (256, 512, 1024)),
    ],
)
def test_features_are_the_last_map_of_each_stage_and_there_is_no_head(name, stem, widths):
    model = create_model(name, "add", features=True)
    x = jnp.zeros((2, 65, 64, 3))
    pyramid, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    sizes = [stem * 2**stage for stage in range(len(widths))]
    expected = [
        (2, -(-65 // size), 64 // size, width) for size, width in zip(sizes, widths, strict=True)
    ]
    assert [z.shape for z in pyramid] == expected
    assert "head" not in variables["params"]

"""PyTorch versions of the authors' CIFAR and ImageNet networks, which exist only in MXNet.

Submodules have the names of the linen modules, so `aff_jax.convert.from_torch` reads their state
dicts. Fusions, and networks of torchvision, are those of the tests' reference,
`tests/reference/torch_aff.py`.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from tests.reference import torch_aff

__all__ = ["NETWORKS", "make_network"]

FUSIONS = {"add": "DAF", "aff": "AFF", "iaff": "iAFF"}
"""Names of the fusions in open-aff's PyTorch code, by their names in this library."""


def fusion(name: str, channels: int, reduction: int) -> nn.Module:
    """Make a fusion of the reference."""
    made: nn.Module = (
        torch_aff.DAF(channels)
        if name == "add"
        else torch_aff.FUSIONS[FUSIONS[name]](channels, r=reduction)
    )
    return made


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make a convolution without bias, padded by kernel // 2."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def pool(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Apply the average pooling of a skip."""
    if stride == 1:
        return x
    return functional.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)


class ConvNorm(nn.Module):
    """A convolution and a batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return norm(conv(x))."""
        normed: torch.Tensor = self.norm(self.conv(x))
        return normed


class CIFARBlock(nn.Module):
    """As `aff_jax.hosts.pre_activation.PreActivationBlock`."""

    def __init__(self, inputs: int, channels: int, stride: int, fuse: str) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), convolution(inputs, channels, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(channels), convolution(channels, channels)
        self.stride = stride
        changes = stride > 1 or inputs != channels
        self.downsample = convolution(inputs, channels, 1) if changes else None
        self.fuse = fusion(fuse, channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return fuse(residual(x), skip(x))."""
        residual = self.conv1(torch.relu(self.norm1(x)))
        residual = self.conv2(torch.relu(self.norm2(residual)))
        if self.downsample is not None:
            x = self.downsample(pool(x, self.stride))
        fused: torch.Tensor = self.fuse(residual, x)
        return fused


class CIFARResNet(nn.Module):
    """As `aff_jax.hosts.cifar_resnet.CIFARResNet` of width 1."""

    def __init__(self, blocks: int, fuse: str, num_classes: int = 10) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(3, affine=False)
        self.stem = convolution(3, 16)
        self.blocks: list[str] = []
        inputs = 16
        for stage, channels in enumerate((16, 32, 64), start=1):
            for index in range(blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                self.blocks.append(f"stage{stage}_block{index}")
                self.add_module(self.blocks[-1], CIFARBlock(inputs, channels, stride, fuse))
                inputs = channels
        self.final_norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.stem(self.input_norm(images))
        for name in self.blocks:
            x = getattr(self, name)(x)
        logits: torch.Tensor = self.head(torch.relu(self.final_norm(x)).mean((2, 3)))
        return logits


class BottleneckV1d(nn.Module):
    """As `aff_jax.hosts.post_activation.Bottleneck` with `average_skip`."""

    def __init__(self, inputs: int, channels: int, stride: int, fuse: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, channels, 1)
        self.conv2 = ConvNorm(channels, channels, 3, stride)
        self.conv3 = ConvNorm(channels, 4 * channels, 1)
        self.stride = stride
        changes = stride > 1 or inputs != 4 * channels
        self.downsample = ConvNorm(inputs, 4 * channels, 1) if changes else None
        self.fuse = fusion(fuse, 4 * channels, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(fuse(residual(x), skip(x)))."""
        residual = self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(pool(x, self.stride))
        return torch.relu(self.fuse(residual, x))


class ResNet50V1d(nn.Module):
    """As `aff_jax.hosts.resnet_v1d.ResNetV1d` with 50 layers, which fuses from stage 3 on."""

    def __init__(self, fuse: str, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem1, self.stem2, self.stem3 = (
            ConvNorm(3, 32, 3, 2),
            ConvNorm(32, 32),
            ConvNorm(32, 64),
        )
        self.blocks: list[str] = []
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3), start=1):
            channels, fused = 64 * 2 ** (stage - 1), fuse if stage > 2 else "add"
            for index in range(blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                self.blocks.append(f"stage{stage}_block{index}")
                self.add_module(self.blocks[-1], BottleneckV1d(inputs, channels, stride, fused))
                inputs = 4 * channels
        self.head = nn.Linear(inputs, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = images
        for stem in (self.stem1, self.stem2, self.stem3):
            x = torch.relu(stem(x))
        x = functional.max_pool2d(x, 3, 2, 1)
        for name in self.blocks:
            x = getattr(self, name)(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    "cifar_resnet8": lambda fuse: CIFARResNet(1, fuse),
    "cifar_resnet20": lambda fuse: CIFARResNet(3, fuse),
    "cifar_resnet32": lambda fuse: CIFARResNet(5, fuse),
    "resnet50": lambda fuse: torch_aff.resnet("resnet50", fuse_type=FUSIONS[fuse]),
    "resnet50_v1d": ResNet50V1d,
}
"""Networks by their names in `aff_jax.create_model`."""


def make_network(name: str, fuse: str) -> nn.Module:
    """Make the PyTorch network of that name, with random weights of seed 0."""
    torch.manual_seed(0)
    return NETWORKS[name](fuse)

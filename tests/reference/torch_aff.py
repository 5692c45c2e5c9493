"""Plain PyTorch reimplementation of open-aff's PyTorch code, as a reference for tests.

Names in the state dicts are those of open-aff's `aff_pytorch/aff_net/fusion.py` and
`aff_resnet.py`. So are the formulas: the gain is 2 in AFF and 1 in iAFF, and iAFF uses `global_att`
in both iterations and never uses `global_att2`. Arrays are `(batch, channels, height, width)`.
"""

import torch
from torch import nn


def branch(channels, hidden, pooled):
    """Return a branch with layers 0, 1, 3 and 4, or 1, 2, 4 and 5 after a pooling."""
    layers = [
        nn.Conv2d(channels, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*([nn.AdaptiveAvgPool2d(1)] if pooled else []), *layers)


class Branches(nn.Module):
    """Branches of one or two iterations. The names of the second iteration end in 2."""

    def __init__(self, channels=64, r=4, iterations=1):
        super().__init__()
        self.sigmoid = nn.Sigmoid()
        for suffix in ("", "2")[:iterations]:
            for scale in ("local", "global"):
                layers = branch(channels, max(1, channels // r), pooled=scale == "global")
                setattr(self, f"{scale}_att{suffix}", layers)


class MS_CAM(Branches):
    def forward(self, x):
        return x * self.sigmoid(self.local_att(x) + self.global_att(x))


class AFF(Branches):
    def forward(self, x, y):
        z = x + y
        m = self.sigmoid(self.local_att(z) + self.global_att(z))
        return 2 * x * m + 2 * y * (1 - m)


class iAFF(Branches):
    def __init__(self, channels=64, r=4):
        super().__init__(channels, r, iterations=2)

    def forward(self, x, y):
        z = x + y
        m = self.sigmoid(self.local_att(z) + self.global_att(z))
        z = x * m + y * (1 - m)
        m = self.sigmoid(self.local_att2(z) + self.global_att(z))
        return x * m + y * (1 - m)


class DAF(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x, y):
        return x + y


FUSIONS = {"DAF": DAF, "AFF": AFF, "iAFF": iAFF}


class Block(nn.Module):
    """Convolutions and norms, a downsampling skip if the shape changes, and a fusion."""

    def __init__(self, convolutions, in_channels, stride, fuse_type):
        super().__init__()
        self.depth = len(convolutions)
        for index, convolution in enumerate(convolutions, start=1):
            setattr(self, f"conv{index}", convolution)
            setattr(self, f"bn{index}", nn.BatchNorm2d(convolution.out_channels))
        channels = convolutions[-1].out_channels
        self.downsample = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))
        self.fuse_mode = FUSIONS[fuse_type](channels)
        self.channels = channels

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        for index in range(1, self.depth + 1):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x))
            if index < self.depth:
                x = torch.relu(x)
        return torch.relu(self.fuse_mode(x, identity))


def basic_block(in_channels, features, stride, groups, width_per_group, fuse_type):
    convolutions = [
        nn.Conv2d(in_channels, features, 3, stride, 1, bias=False),
        nn.Conv2d(features, features, 3, 1, 1, bias=False),
    ]
    return Block(convolutions, in_channels, stride, fuse_type)


def bottleneck(in_channels, features, stride, groups, width_per_group, fuse_type):
    hidden = features * width_per_group // 64 * groups
    convolutions = [
        nn.Conv2d(in_channels, hidden, 1, bias=False),
        nn.Conv2d(hidden, hidden, 3, stride, 1, groups=groups, bias=False),
        nn.Conv2d(hidden, 4 * features, 1, bias=False),
    ]
    return Block(convolutions, in_channels, stride, fuse_type)


class ResNet(nn.Module):
    """Torchvision's ResNet with a fusion at every skip."""

    def __init__(
        self,
        block=bottleneck,
        layers=(3, 4, 6, 3),
        fuse_type="AFF",
        num_classes=1000,
        groups=1,
        width_per_group=64,
        small_input=False,
        features=64,
    ):
        super().__init__()
        kernel, stride = (3, 1) if small_input else (7, 2)
        self.conv1 = nn.Conv2d(3, features, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = features
        for stage, blocks in enumerate(layers):
            blocks_of_stage = []
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                width = features * 2**stage
                made = block(channels, width, stride, groups, width_per_group, fuse_type)
                blocks_of_stage.append(made)
                channels = made.channels
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks_of_stage))
        self.stages = len(layers)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


SHAPES = {
    "resnet18": {"block": basic_block, "layers": (2, 2, 2, 2)},
    "resnet34": {"block": basic_block, "layers": (3, 4, 6, 3)},
    "resnet50": {"layers": (3, 4, 6, 3)},
    "resnet101": {"layers": (3, 4, 23, 3)},
    "resnet152": {"layers": (3, 8, 36, 3)},
    "resnext50_32x4d": {"layers": (3, 4, 6, 3), "groups": 32, "width_per_group": 4},
    "resnext101_32x8d": {"layers": (3, 4, 23, 3), "groups": 32, "width_per_group": 8},
    "wide_resnet50_2": {"layers": (3, 4, 6, 3), "width_per_group": 128},
    "wide_resnet101_2": {"layers": (3, 4, 23, 3), "width_per_group": 128},
}


def resnet(name, **options):
    """Create a network of `SHAPES`; `options` override arguments of `ResNet`."""
    return ResNet(**{**SHAPES[name], **options})

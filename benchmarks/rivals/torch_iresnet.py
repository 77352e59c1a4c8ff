"""The published IR networks in PyTorch, written down anew under the published names."""

import torch
from torch import nn


def _conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class _InsightfaceBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _conv(outputs, outputs, 3, stride)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class Insightface(nn.Module):
    def __init__(self, depths, widths=(64, 128, 256, 512), map_size=7, dim=512):
        super().__init__()
        self.conv1 = _conv(3, widths[0], 3)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inputs = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            first = _InsightfaceBlock(inputs, width, 2)
            rest = [_InsightfaceBlock(width, width, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
            inputs = width
        self.num_stages = len(depths)
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * map_size**2, dim)
        self.features = nn.BatchNorm1d(dim)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, self.num_stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class _AdafaceBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            _conv(inputs, outputs, 3),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            _conv(outputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class Adaface(nn.Module):
    """Returns the raw embedding; the published network splits it into direction and norm."""

    def __init__(self, depths, widths=(64, 128, 256, 512), map_size=7, dim=512, dropout=0.4):
        super().__init__()
        self.input_layer = nn.Sequential(
            _conv(3, widths[0], 3), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        blocks, inputs = [], widths[0]
        for depth, width in zip(depths, widths, strict=True):
            blocks += [_AdafaceBlock(inputs, width, 2)]
            blocks += [_AdafaceBlock(width, width, 1) for _ in range(depth - 1)]
            inputs = width
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(inputs * map_size**2, dim),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x):
        return self.output_layer(self.body(self.input_layer(x)))


NETWORKS = {"insightface": Insightface, "adaface": Adaface}


def randomize(network, seed=0):
    """Draw parameters and running statistics that leave activations of order 1 and hide nothing."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, mean, std):
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                normal(module.weight, 0, module.weight[0].numel() ** -0.5)
            if isinstance(module, nn.Linear):
                normal(module.bias, 0, 0.5)
            if isinstance(module, nn.PReLU):
                normal(module.weight, 0.25, 0.1)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_var is not None
                normal(module.running_mean, 0, 0.3)
                module.running_var.uniform_(0.6, 1.8, generator=generator)
                if module.affine:
                    module.weight.uniform_(0.4, 1.2, generator=generator)
                    normal(module.bias, 0, 0.2)
    return network

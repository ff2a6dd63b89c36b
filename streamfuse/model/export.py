"""A trained network -> a model file."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from streamfuse.errors import ModelError, OutputError
from streamfuse.model import torchscript
from streamfuse.model.inspect import WEIGHTS_FILE, ModelFile
from streamfuse.model.network import Network, Stepper, build_network
from streamfuse.model.spec import SPEC_FILE, ModelSpec


def weights_sha256(module: nn.Module) -> str:
    """Identity of the weights, whatever the file is named or how it was frozen.

    Over the parameters and buffers by name: name, dtype, shape, then the bytes.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dump_weights(module: nn.Module) -> bytes:
    """The parameters and buffers by name. A frozen program has lost the names, and folded what it could:
    other formats, and further training, begin here."""
    buffer = io.BytesIO()
    arrays = {name: one.detach().cpu().contiguous().numpy() for name, one in module.state_dict().items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load_network(file: ModelFile) -> Network:
    """The network of a model file of ours, as it was before it was frozen.

    raises  ModelError for a file without its weights by name: somebody's own, or one of an older version
    """
    data = file.member(WEIGHTS_FILE)
    if file.spec.network is None or data is None:
        hint = "export it again with `streamfuse train` of this version"
        raise ModelError(
            f"a model file must have {WEIGHTS_FILE} inside", got="none", where=file.path, hint=hint
        )
    network = build_network(file.spec)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            network.load_state_dict({name: torch.from_numpy(kept[name]) for name in kept.files})
    except (RuntimeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ModelError("the weights in a model file must fit", got=error, where=file.path) from error
    return network.eval()


def export_model(
    network: Network, spec: ModelSpec, path: str | os.PathLike[str], *, keep_weights: bool = True
) -> ModelSpec:
    """Script, freeze and write the network with its description; the file appears whole or not at all.

    spec     of network_spec(), with what training adds: temperatures, thresholds, data, quality
    keep_weights  also as they were before freezing: twice the size, for load_network()
    returns  the spec as written: state, warm_ticks and weights_sha256 are filled in here
    """
    if any(not torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise ModelError("weights must be finite", got="NaN or infinity", where=f"model {spec.name}")
    # The caller may go on training; the copy is what is frozen.
    network = copy.deepcopy(network).cpu().float().eval()
    spec = msgspec.structs.replace(
        spec,
        state=tuple(network.state_spec()),
        warm_ticks=network.receptive_field,
        weights_sha256=weights_sha256(network),
    )
    extra: dict[str, str | bytes] = {SPEC_FILE: spec.to_json()}
    if keep_weights:
        extra[WEIGHTS_FILE] = dump_weights(network)
    for weight in network.parameters():
        if weight.dim() == 4:  # a tenth faster at batch 1; the state keeps its pictures in this order too
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    program = torchscript.freeze(Stepper(network), keep=("init_state",))
    write_model(torchscript.dump(program, extra), path)
    return spec


def write_model(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write a model file beside its name, then rename it."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        raise OutputError("a model file must be writable", got=error.strerror, where=target) from error

"""Training checkpoints: one safetensors file that appears whole, with everything a resumed training needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fetalflex.artifacts import atomic, read_json, write_json
from fetalflex.errors import ArtifactError, ModelError

NAME = "checkpoint.safetensors"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
SHARD_BYTES = 15_900_000  # and a header: no file of weights above 16 MB
INDEX = ".index.json"
_IRRELEVANT = {"checkpoint_every", "shards", "min_confidence", "gradient_checkpointing"}


def digest_of(params: BaseModel, **more: Any) -> str:
    """Return a SHA-256 of what a training depends on; how often it is saved or computed anew is no part of it."""
    value = params.model_dump(mode="json", exclude=_IRRELEVANT) | more
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Ema:
    """Exponential moving average of a module's parameters, on the module's device.

    decay_k = min(decay, (1 + k) / (10 + k)): early averages forget the random start.
    Source: Polyak & Juditsky 1992; the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the parameters after step `step` (counted from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        kept = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [kept[name] for name in self.values], 1 - keep)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into a module of the same parameters."""
        kept = dict(module.named_parameters())
        for name, value in self.values.items():
            kept[name].copy_(value)


def save_checkpoint(
    folder: Path, digest: str, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None
) -> None:
    """Write the state after `step` finished steps; the last checkpoint is replaced in one move.

    Random numbers are functions of (seed, step), so their state is the step.
    """
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{k}": v for k, v in ema.values.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in an order that changes from run to run.
    header = {"state": json.dumps({"digest": digest, "step": step}, sort_keys=True)}
    with atomic(folder / NAME) as partial:
        # Clones: safetensors refuses tensors that share storage.
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial, header)


def load_checkpoint(
    folder: Path | None, digest: str, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None
) -> int:
    """Restore the last checkpoint in place and return how many steps it had finished; 0 where there is none.

    Raises: ModelError where it is damaged or belongs to other parameters, seed or data.
    """
    if folder is None or not (folder / NAME).exists():
        return 0
    tensors, header = read_tensors(folder / NAME)
    found = json.loads(header.get("state", "{}"))
    if found.get("digest") != digest:
        raise ModelError(
            f"{folder / NAME}: belongs to another configuration ({found.get('digest', 'none')[:12]}); "
            f"expected {digest[:12]}; remove it to train from the start"
        )
    module.load_state_dict(_part(tensors, "module."))
    if ema is not None:
        for name, value in _part(tensors, "ema.").items():
            ema.values[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(found["step"])


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a safetensors file.

    Raises: ModelError where it is missing, damaged, or a pickle: those are never opened.
    """
    if path.suffix in PICKLES:
        raise ModelError(f"{path}: a pickle can run code and is never opened; expected safetensors")
    try:
        with safe_open(path, "pt") as stream:
            return {k: stream.get_tensor(k) for k in stream.keys()}, dict(stream.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); run the stage that wrote it") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of weights named `path`: that one file, or the shards of the index beside it.

    Raises: ModelError where a file is missing, damaged, or a pickle, or where the index names other folders' files.
    """
    index = path.with_name(path.name + INDEX)
    if not index.is_file():
        return read_tensors(path)[0]
    try:
        shards = sorted({str(name) for name in read_json(index)["weight_map"].values()})
    except (ArtifactError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: is no index of weights ({error}); run the stage that wrote it") from error
    tensors: dict[str, Tensor] = {}
    for name in shards:
        if Path(name).name != name:
            raise ModelError(f"{index}: names {name!r}; expected files of its own folder")
        tensors |= read_tensors(path.with_name(name))[0]
    return tensors


def save_module(folder: Path, module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a module as config.json and model.safetensors, in shards with an index where it is above 16 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}
    split = split_torch_state_dict_into_shards(
        state, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD_BYTES
    )
    for name, keys in split.filename_to_tensors.items():
        with atomic(folder / name) as partial:
            save_file({k: state[k] for k in keys}, partial)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / f"model.safetensors{INDEX}", index)
    with atomic(folder / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """Return config.json of a saved module of that kind.

    Raises: ModelError where it is missing, of another kind, or where the folder holds pickled weights only.
    """
    pickles = sorted(p.name for p in folder.rglob("*") if p.suffix in PICKLES)
    if pickles:
        raise ModelError(f"{folder}: holds {pickles[0]}, a pickle, which can run code; expected safetensors alone")
    try:
        config = read_json(folder / "config.json")
    except ArtifactError as error:
        raise ModelError(f"{folder}: no {kind} here ({error})") from error
    if not isinstance(config, dict) or config.get("kind") != kind:
        raise ModelError(
            f"{folder}: expected a {kind}; found {config.get('kind') if isinstance(config, dict) else config!r}"
        )
    return config


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from weights (see `read_weights`). Raises: ModelError where names or shapes differ."""
    try:
        module.load_state_dict(read_weights(path))
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: weights belong to another configuration ({first})") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

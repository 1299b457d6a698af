"""Finds the bias of a model's classifier by its effect on the logits, not by its name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PROBES = (0.1, 1.0, 30.0, 1000.0)
"""The rough amounts by which a parameter is changed, up and down, to test whether the logits change as much."""


def logits_of(outputs: Any) -> Tensor:
    """The logits in a model's output: the tensor, `outputs["logits"]` of a mapping, or the first element of a tuple.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping) and "logits" in outputs:
        logits: Tensor = outputs["logits"]
        return logits
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    shown = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
    raise ValueError(f"the model's output ({shown}) has no logits; return them as 'logits', or first in a tuple")


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Run a block with the model in evaluation mode and without gradients; then restore the mode of each module."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def find_bias(model: nn.Module, change: Tensor, inputs: Any, instead: str) -> nn.Parameter:
    """Find the parameter that shifts the logits exactly: adding x to an entry adds x to the logit of that label.

    Each parameter of shape `(num_labels,)` is changed up and down, by small and large amounts that differ between its
    entries, and the model is run. A bias before a tanh, a scale or a normalization fails this test. If several
    parameters pass, one of them is returned. At the end all parameters have their old values.

    Args:
        change (float, `(num_labels,)`): the planned change; amounts of this size are tried as well.
        inputs: the model's inputs: a mapping of its arguments, or its only argument. None for random inputs, if the
            model has a `config` and takes token ids or pixels, or has no `config` and begins with a linear layer.
        instead: what the error message recommends if there is no such bias.

    Raises:
        ValueError: if there is no such parameter, or the model cannot be run.
    """
    num_labels = len(change)
    named = [(name, p) for name, p in model.named_parameters() if p.shape == (num_labels,) and p.is_floating_point()]
    if named:
        batches = [inputs] if inputs is not None else _made_up_inputs(model, named[-1][1].device)
        with in_evaluation(model):
            before = _run(model, batches, num_labels, made_up=inputs is None)
            for _, parameter in reversed(named):  # the classifier is usually the last
                if _moves_logits(model, parameter, before, change, batches):
                    return parameter
    tried = ", ".join(name for name, _ in named[-5:]) or f"there is no parameter of {num_labels} entries"
    raise ValueError(
        f"the model has no bias that shifts the logits by exactly its own change (tried: {tried}); the model is "
        f"unchanged; {instead}"
    )


def _moves_logits(
    model: nn.Module, parameter: nn.Parameter, before: Tensor, change: Tensor, batches: list[Any]
) -> bool:
    kept = parameter.detach().clone()
    generator = torch.Generator().manual_seed(0)
    steps = 0.5 + torch.rand(len(kept), generator=generator, dtype=torch.float64)
    steps *= torch.randint(0, 2, steps.shape, generator=generator) * 2 - 1
    try:
        for size in (*PROBES, 2 * change.abs().max().item()):
            for step in (size * steps, -size * steps):
                parameter.copy_(kept.cpu().double() + step)
                moved = parameter.cpu().double() - kept.cpu().double()
                after = torch.cat([logits_of(_call(model, batch)) for batch in batches])
                largest = torch.maximum(before.abs(), after.cpu().double().abs())
                largest += torch.maximum(kept.abs(), parameter.abs()).cpu().double()
                error = (after.cpu().double() - before - moved).abs()
                if not (error <= _rounding(after) * largest).all():  # NaN does not pass
                    return False
        return True
    finally:
        parameter.copy_(kept)


def _rounding(logits: Tensor) -> float:
    """The relative rounding error of logits, found from their values: under autocast their dtype does not show it."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(logits.to(dtype).to(logits.dtype), logits):
            return 2 * torch.finfo(dtype).eps
    return 16 * torch.finfo(torch.float32).eps


def _run(model: nn.Module, batches: list[Any], num_labels: int, made_up: bool) -> Tensor:
    """The logits of all batches, float64 on the CPU, `(rows, ..., num_labels)`."""
    try:
        logits = torch.cat([logits_of(_call(model, batch)) for batch in batches]).cpu().double()
    except Exception as error:  # a model may raise any error
        source = "random inputs: pass inputs=..., a real batch" if made_up else "these inputs"
        raise ValueError(f"the model does not run on {source} ({type(error).__name__}: {error})") from error
    if logits.dim() < 2 or logits.shape[-1] != num_labels or not logits.numel():
        raise ValueError(f"the model's logits have shape {tuple(logits.shape)}; they must be (rows, {num_labels})")
    return logits


def _call(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(batch)


def _made_up_inputs(model: nn.Module, device: torch.device) -> list[Any]:
    """Four random rows; rows of tokens one per batch, because models without a padding token take only one."""
    name, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    generator = torch.Generator().manual_seed(0)
    if name == "input_ids" and (vocabulary := _setting(config, "vocab_size")):
        special = [getattr(config, f"{kind}_token_id", None) for kind in ("pad", "eos")]
        allowed = torch.tensor([token for token in range(min(vocabulary, 1000)) if token not in special])
        rows = allowed[torch.randint(len(allowed), (4, 1, 8), generator=generator)]
        if isinstance(special[1], int):  # encoder-decoders classify at the end of the text
            rows[..., -1] = special[1]
        return [{name: row.to(device)} for row in rows]
    if name == "pixel_values":
        size = _setting(config, "image_size") or 224
        height, width = (size, size) if isinstance(size, int) else size
        shape = (4, 1, _setting(config, "num_channels") or 3, height, width)
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        return [{name: row.to(device, dtype)} for row in torch.randn(shape, generator=generator)]
    first = next((module for module in model.modules() if isinstance(module, nn.Linear)), None)
    if config is None and first is not None:
        return [torch.randn(4, first.in_features, generator=generator).to(device, first.weight.dtype)]
    raise ValueError(
        "the classifier's bias cannot be tested with random inputs for this model; pass inputs=..., a batch that the "
        "model takes, such as tokenizer(texts, return_tensors='pt')"
    )


def _setting(config: Any, name: str) -> Any:
    """A setting of a configuration, or of its text or vision part; None if none of them has it."""
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        if (value := getattr(part, name, None)) is not None:
            return value
    return None

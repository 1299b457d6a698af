"""Finds the bias of a model's classifier by its effect on the logits, not by its name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PROBES = (0.1, 1.0, 30.0, 1000.0)
"""A bias is moved by about these amounts, up and down, to see whether the logits follow."""


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
    """The model in evaluation mode and without gradients; afterwards each of its modules has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def find_bias(model: nn.Module, change: Tensor, inputs: Any, instead: str) -> nn.Parameter:
    """The parameter that moves each logit by exactly as much as it is moved itself.

    Each parameter of shape `(num_labels,)` is moved up and down, by small and large amounts that differ between its
    entries, and the model is run. A bias in front of a tanh, a scale or a normalization fails. If several parameters
    pass, any will do. In the end every parameter is as it was.

    Args:
        change (float, `(num_labels,)`): the change that is planned; amounts as large are tried, too.
        inputs: of the model: a mapping of its arguments, or its one argument; None makes some up, for models with
            a `config` that take token ids or pixels, and for those without one that begin with a linear layer.
        instead: what to do without such a bias, for the message.

    Raises:
        ValueError: if there is no such parameter, or the model cannot be run.
    """
    num_labels = len(change)
    named = [(name, p) for name, p in model.named_parameters() if p.shape == (num_labels,) and p.is_floating_point()]
    if named:
        batches = [inputs] if inputs is not None else _made_up_inputs(model, named[-1][1].device)
        with in_evaluation(model):
            before = _run(model, batches, num_labels, made_up=inputs is None)
            for _, parameter in reversed(named):  # the classifier comes last, as a rule
                if _moves_logits(model, parameter, before, change, batches):
                    return parameter
    tried = ", ".join(name for name, _ in named[-5:]) or f"there is no parameter of {num_labels} entries"
    raise ValueError(
        f"the model has no bias that moves its logits by exactly as much as it is moved itself (tried: {tried}), and "
        f"stays as it is; {instead}"
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
    """The relative rounding error of logits. Their values tell their precision, which autocast hides."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(logits.to(dtype).to(logits.dtype), logits):
            return 2 * torch.finfo(dtype).eps
    return 16 * torch.finfo(torch.float32).eps


def _run(model: nn.Module, batches: list[Any], num_labels: int, made_up: bool) -> Tensor:
    """The logits of all batches, float64 on the CPU, `(rows, ..., num_labels)`."""
    try:
        logits = torch.cat([logits_of(_call(model, batch)) for batch in batches]).cpu().double()
    except Exception as error:  # a model may raise anything
        source = "inputs that were made up: pass inputs=..., a batch of its own" if made_up else "these inputs"
        raise ValueError(f"the model does not run on {source} ({type(error).__name__}: {error})") from error
    if logits.dim() < 2 or logits.shape[-1] != num_labels or not logits.numel():
        raise ValueError(f"the model's logits have shape {tuple(logits.shape)}; they must be (rows, {num_labels})")
    return logits


def _call(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(batch)


def _made_up_inputs(model: nn.Module, device: torch.device) -> list[Any]:
    """Four random rows. Each row of tokens is a batch: models without a padding token take no more at a time."""
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
        "no inputs can be made up to see what the classifier's bias does; pass inputs=..., a batch as the model takes "
        "it, such as tokenizer(texts, return_tensors='pt')"
    )


def _setting(config: Any, name: str) -> Any:
    """A setting of a configuration, or of the one for text or pictures that it holds; None if there is none."""
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        if (value := getattr(part, name, None)) is not None:
            return value
    return None

"""The classifier's bias is found by its effect, not by its name. Heads without such a bias are refused, unchanged."""

import numpy as np
import pytest
import scenarios
import torch
from peft import LoraConfig, get_peft_model
from text_models import (
    TEXT_MODELS,
    THRESHOLDS,
    TOKENS,
    assert_unchanged,
    state_of,
    weights_of,
    write_thresholds,
)
from torch import nn
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
)

from hf_plm import (
    LabelCounts,
    PLMLoss,
    calibrate,
    fold_thresholds,
)
from hf_plm.classifier_bias import logits_of
from hf_plm.decisions import (
    Decisions,
    log_odds_shift,
    read_decisions,
    thresholds_of,
    write_decisions,
)


class Head(nn.Module):
    """A hidden layer with one unit for each label, and an unusual head."""

    def __init__(self, kind, num_labels=4):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.hidden = nn.Linear(6, num_labels)
        self.norm = nn.LayerNorm(num_labels)
        self.scorer = nn.Linear(num_labels, num_labels, bias=kind != "no bias")
        self.extra = nn.Parameter(torch.randn(num_labels))
        self.drop = nn.Dropout(0.5)

    def forward(self, inputs):
        logits = self.scorer(self.drop(torch.tanh(self.norm(self.hidden(inputs)))))
        return {
            "tanh": lambda: 20 * torch.tanh(logits / 20),
            "scale": lambda: 1.001 * logits,
            "scale of each": lambda: logits * self.extra,
            "cosine": lambda: 10 * nn.functional.normalize(logits, dim=-1),
            "clamped": lambda: logits.clamp(-30, 30),
            "rectified": lambda: torch.relu(logits + 50),
            "permuted": lambda: logits.flip(-1),
            "softmax": lambda: torch.log_softmax(logits, -1),
            "two biases": lambda: logits + self.extra,
            "halves": lambda: logits / 2 + self.extra / 2,
            "second": lambda: logits.tanh() + self.extra,
            "behind a tuple": lambda: (logits, inputs),
        }.get(self.kind, lambda: logits)()


ROWS = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", ["plain", "two biases", "second", "behind a tuple"])
def test_a_bias_that_shifts_logits_exactly_is_found_by_its_effect(kind):
    model, state = Head(kind), state_of(4)
    model.train()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    with torch.no_grad():
        before = logits_of(model.eval()(ROWS))
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    calibrate(model, state, ROWS)
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        torch.testing.assert_close(logits_of(model.eval()(ROWS)), before - log_odds_shift(state))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "kind",
    ["tanh", "scale", "scale of each", "cosine", "clamped", "rectified", "permuted", "softmax", "halves", "no bias"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_head_whose_bias_does_not_only_shift_logits_is_refused_and_unchanged(kind, dtype):
    model = Head(kind).to(dtype)
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"no bias that shifts the logits by exactly.*; subtract log_odds_shift\("):
        calibrate(model, state_of(4), ROWS.to(dtype))
    assert_unchanged(model, before)


@pytest.mark.parametrize("kind", ["tanh", "cosine", "clamped", "softmax", "halves", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_nonlinear_head_is_found_in_low_precision_too(kind, dtype):
    with pytest.raises(ValueError, match="no bias that shifts the logits"):
        calibrate(Head(kind).to(dtype), state_of(4), ROWS.to(dtype))
    calibrate(Head("plain").to(dtype), state_of(4), ROWS.to(dtype))


@pytest.mark.parametrize("bounds", [(-20, None), (None, 20)])
def test_a_head_that_is_nonlinear_on_one_side_only_is_refused(bounds):
    class Bounded(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs).clamp(*bounds)

    with pytest.raises(ValueError, match="no bias that shifts the logits"):
        calibrate(Bounded(6, 1), state_of(1), ROWS)
    calibrate(nn.Linear(6, 1), state_of(1), ROWS)


@pytest.mark.parametrize(
    ("layer", "found"), [(nn.Linear(4, 2, bias=False), "parameter of 2"), (nn.Linear(4, 3), "parameter of 2")]
)
def test_a_model_without_a_bias_to_change_is_refused(layer, found):
    state = PLMLoss(LabelCounts([1, 2], [3, 4])).state
    with pytest.raises(ValueError, match=f"there is no {found} entries.*subtract log_odds_shift"):
        calibrate(nn.Sequential(layer), state, torch.ones(1, 4))


def test_a_classifier_without_a_bias_keeps_its_thresholds():
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, num_labels=5, bos_token_id=1, eos_token_id=2)
    model = GPT2ForSequenceClassification(config)
    write_thresholds(model)
    with pytest.raises(ValueError, match=r"keep the thresholds instead: hf_plm\.predict uses them"):
        fold_thresholds(model)
    assert read_decisions(model.config).thresholds == THRESHOLDS


@pytest.mark.parametrize("num_labels", [1, 16])
@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
def test_only_the_bias_of_the_head_changes_even_if_other_layers_are_as_wide(make, num_labels):
    torch.manual_seed(0)
    model = make(num_labels)
    write_thresholds(model, np.linspace(-1, 1, num_labels))
    before = weights_of(model)
    fold_thresholds(model)
    changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(changed) == 1
    assert changed[0].endswith(("classifier.bias", "classifier.out_proj.bias", "modules_to_save.default.bias"))


def test_a_bias_is_found_under_autocast_too():
    model = scenarios.make_bert()
    forward = model.forward

    def autocast(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = forward(*args, **kwargs)
        outputs["logits"] = outputs.logits.float()  # as accelerate does it
        return outputs

    model.forward = autocast
    write_thresholds(model)
    expected = model.classifier.bias.detach() - torch.tensor(THRESHOLDS)
    fold_thresholds(model)
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.ones(2, 5), "the model does not run on these inputs"),
        (torch.ones(0, 6), r"the model's logits have shape \(0, 4\)"),
    ],
)
def test_errors_name_unusable_inputs(inputs, message):
    model = Head("plain")
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        calibrate(model, state_of(4), inputs)
    assert_unchanged(model, before)


def test_an_error_asks_for_inputs_that_cannot_be_made_up():
    with pytest.raises(ValueError, match=r"cannot be tested with random inputs .*; pass inputs="):
        calibrate(nn.Sequential(nn.LayerNorm(4)), state_of(4))
    with pytest.raises(ValueError, match=r"does not run on random inputs: pass inputs="):
        calibrate(nn.Sequential(nn.EmbeddingBag(7, 3), nn.Linear(3, 4)), state_of(4))


def test_inputs_may_be_a_batch_as_the_tokenizer_gives_it():
    model = scenarios.make_bert()
    write_thresholds(model)
    expected = model.classifier.bias.detach() - torch.tensor(THRESHOLDS)
    fold_thresholds(model, {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)})
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


def test_a_model_without_a_configuration_is_calibrated_without_a_record():
    model = Head("plain")
    calibrate(model, state_of(4), ROWS)
    assert read_decisions(None) == Decisions()
    assert thresholds_of(None) is None
    with pytest.raises(ValueError, match="no configuration"):
        write_decisions(None, Decisions())
    adapted = get_peft_model(nn.Sequential(Head("plain")), LoraConfig(target_modules=["0.scorer"]))
    calibrate(adapted, state_of(4), ROWS)  # its config is a dictionary

"""What was decided belongs to its model: decisions outlive calibrating and folding, and end with the head."""

import json

import numpy as np
import pytest
import scenarios
import torch
from peft import LoraConfig, get_peft_model
from scipy.special import expit
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    EvalPrediction,
    GPT2Config,
    GPT2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from hf_plm import (
    LabelCounts,
    PLMLoss,
    PLMTrainer,
    calibrate,
    fold_thresholds,
    multilabel_compute_metrics,
    predict,
    tune_thresholds,
)
from hf_plm.classifier_bias import logits_of
from hf_plm.decisions import (
    Decisions,
    end_decisions,
    log_odds_shift,
    read_decisions,
    thresholds_of,
    write_decisions,
)
from hf_plm.metrics import evaluating

NAMES = ["red", "green", "blue", "round", "square"]
THRESHOLDS = (-0.11, 0.03, 0.02, -0.05, 0.08)
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}
TOKENS = torch.randint(5, 50, (32, 8), generator=torch.Generator().manual_seed(1))


def named_bert(**kwargs):
    names = kwargs.pop("names", NAMES)
    return scenarios.make_bert(
        len(names), id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}, **kwargs
    )


def lora(bert):
    settings = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    return get_peft_model(bert, settings)


def distilbert(num_labels):
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16, num_labels=num_labels)
    return DistilBertForSequenceClassification(config)


def modernbert(num_labels):
    tokens = {f"{kind}_token_id": index for index, kind in enumerate(("pad", "bos", "eos", "cls", "sep"))}
    return ModernBertForSequenceClassification(ModernBertConfig(**SIZES, **tokens, num_labels=num_labels))


TEXT_MODELS = {
    "bert": scenarios.make_bert,
    "distilbert": distilbert,
    "roberta": lambda num_labels: RobertaForSequenceClassification(RobertaConfig(**SIZES, num_labels=num_labels)),
    "modernbert": modernbert,
    "lora": lambda num_labels: lora(scenarios.make_bert(num_labels)),
}


def state_of(num_labels=5, names=None):
    """A state whose shifts are large and differ."""
    counts = LabelCounts([2 * 4**label for label in range(num_labels)], [3000] * num_labels, names)
    state = PLMLoss(counts, temper=0.5, initial_ratio="tempered", max_shift=100).state
    assert log_odds_shift(state).min() > 0.1
    return state


def write_thresholds(model, thresholds=THRESHOLDS, **kwargs):
    config = model.config
    write_decisions(config, Decisions(**{**vars(read_decisions(config)), "thresholds": thresholds, **kwargs}))


def scores_of(model, inputs=None):
    with torch.no_grad():
        return logits_of(model.eval()(**(inputs or {"input_ids": TOKENS}))).double().numpy()


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def assert_unchanged(model, before):
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


# probabilities


@pytest.fixture
def trained():
    """A logistic regression on data of which the probabilities are known, trained with a tenth of the negatives."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 2, generator=generator)
    truth = torch.sigmoid(inputs @ torch.tensor([[1.0, 0.0], [0.5, -1.0]]) + torch.tensor([-3.0, 2.0]))
    labels = (torch.rand(truth.shape, generator=generator) < truth).float()
    counts = LabelCounts(labels.sum(0), (1 - labels).sum(0))
    plm_loss = PLMLoss(counts, objective="bce", rule="fixed", temper=0.2)
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200)
    mask = plm_loss.state.num_batches

    def closure():
        optimizer.zero_grad()
        plm_loss.state.num_batches = mask  # the same mask for every evaluation of a batch
        loss = plm_loss(model(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    plm_loss.end_epoch()
    return model, plm_loss.state, inputs, truth


def test_a_calibrated_model_gives_the_probabilities_of_the_data(trained):
    model, state, inputs, truth = trained
    before = (torch.sigmoid(model(inputs)) - truth).abs().mean(0)
    calibrate(model, state, inputs[:8])
    after = (torch.sigmoid(model(inputs)) - truth).abs().mean(0)
    assert before.min() > 0.1
    assert after.max() < 0.01


def test_the_shift_is_that_of_the_last_epoch_that_was_trained():
    plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700]), change_rate=1.0)
    state = plm_loss.state
    start = torch.log(state.ideal_ratio / state.ratio)
    torch.testing.assert_close(log_odds_shift(state), start)
    plm_loss(torch.ones(4, 2), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]))
    plm_loss.end_epoch()
    torch.testing.assert_close(log_odds_shift(state), start)
    plm_loss(torch.ones(4, 2), torch.zeros(4, 2))
    torch.testing.assert_close(log_odds_shift(state), torch.log(state.ideal_ratio / state.ratio))
    assert not torch.allclose(log_odds_shift(state), start)


def test_a_trained_transformer_is_calibrated_once_and_says_so(make_args, tmp_path):
    trainer = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=scenarios.make_rows(64))
    trainer.train()
    before = trainer.model.classifier.bias.detach().clone()
    calibrate(trainer.model, trainer.plm_state)
    expected = before - log_odds_shift(trainer.plm_state)
    torch.testing.assert_close(trainer.model.classifier.bias, expected)
    trainer.save_model(str(tmp_path))
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.classifier.bias.detach(), trainer.model.classifier.bias.detach())
    assert read_decisions(again.config).scores == "probabilities"
    assert json.loads((tmp_path / "config.json").read_text())["plm"] == trainer.model.config.plm
    with pytest.raises(ValueError, match="was calibrated before .*: the shift is out of its bias already"):
        calibrate(again, trainer.plm_state)
    assert_unchanged(again, weights_of(trainer.model))


@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
@pytest.mark.parametrize("tuned", [True, False])
def test_no_decision_changes_by_calibrating(make, tuned):
    torch.manual_seed(0)
    model, state = make(5), state_of()
    if tuned:
        write_thresholds(model, tuned_on="those")
    before, decided = scores_of(model), predict(model, {"input_ids": TOKENS})
    calibrate(model, state)
    np.testing.assert_allclose(scores_of(model), before - log_odds_shift(state).numpy(), atol=1e-5)
    decisions = read_decisions(model.config)
    expected = np.array(THRESHOLDS if tuned else [0] * 5) - log_odds_shift(state).numpy()
    np.testing.assert_allclose(decisions.thresholds, expected, atol=1e-5)
    assert (decisions.scores, decisions.tuned_on) == ("probabilities", "those" if tuned else None)
    assert predict(model, {"input_ids": TOKENS}) == decided
    assert not all(decided)
    assert any(decided)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_thresholds_move_as_far_as_a_rounded_bias_did(dtype):
    model = scenarios.make_bert().to(dtype)
    bias = model.classifier.bias.detach().double().numpy()
    write_thresholds(model)
    calibrate(model, state_of())
    moved = bias - model.classifier.bias.detach().double().numpy()
    np.testing.assert_array_equal(thresholds_of(model.config), np.array(THRESHOLDS) - moved)
    np.testing.assert_allclose(moved, log_odds_shift(state_of()).numpy(), rtol=0.01)
    fold_thresholds(model)
    assert model.dtype == dtype


def test_a_state_of_another_order_is_put_in_order_and_one_of_other_labels_is_refused():
    model, order = named_bert(), [4, 2, 0, 1, 3]
    counts = LabelCounts([2, 8, 32, 128, 512], [3000] * 5)
    state = PLMLoss(LabelCounts(counts.positives[order], counts.negatives[order]), temper=0.5).state
    state.label_names = [NAMES[index] for index in order]
    expected = PLMLoss(counts, temper=0.5).state
    before = model.classifier.bias.detach().clone()
    calibrate(model, state)
    torch.testing.assert_close(before - model.classifier.bias, log_odds_shift(expected))
    state.label_names = [*NAMES[:4], "other"]
    other = named_bert()
    with pytest.raises(ValueError, match=r"plm_state is of the labels .*other.*, and the model has .*square"):
        calibrate(other, state)
    with pytest.raises(ValueError, match="plm_state is of 3 labels, and the model has 5"):
        calibrate(other, state_of(3))
    assert_unchanged(other, weights_of(named_bert()))


# decisions for pipelines


@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_folded_model_decides_at_a_half_as_predict_did(make, calibrated):
    torch.manual_seed(0)
    model = make(5)
    thresholds = np.quantile(scores_of(model), [0.3, 0.4, 0.5, 0.6, 0.7], axis=0).diagonal()
    write_thresholds(model, thresholds, tuned_on="those")
    if calibrated:
        calibrate(model, state_of())
    decided = predict(model, {"input_ids": TOKENS})
    fold_thresholds(model)
    at_half = [[f"LABEL_{label}" for label in np.flatnonzero(expit(row) >= 0.5)] for row in scores_of(model)]
    assert at_half == decided == predict(model, {"input_ids": TOKENS})
    assert len({len(row) for row in decided}) > 2
    decisions = read_decisions(model.config)
    assert (decisions.thresholds, decisions.scores, decisions.tuned_on) == (None, "decisions", "those")
    before = weights_of(model)
    with pytest.raises(ValueError, match="the thresholds are in the classifier's bias already"):
        fold_thresholds(model)
    with pytest.raises(ValueError, match="folded into the bias .*; calibrate first, then fold_thresholds"):
        calibrate(model, state_of())
    assert_unchanged(model, before)


def test_a_pipeline_of_a_folded_model_gives_what_predict_gave(tmp_path):
    model, tokenizer = named_bert(problem_type="multi_label_classification"), scenarios.make_tokenizer()
    texts = [" ".join(np.random.default_rng(seed).choice(scenarios.WORDS[2:], 6)) for seed in range(12)]
    inputs = {"input_ids": tokenizer(texts, return_tensors="pt")["input_ids"]}
    write_thresholds(model, np.median(scores_of(model, inputs), axis=0) + 1e-4)
    decided = predict(model, inputs)
    model.save_pretrained(tmp_path)
    fold_thresholds(model)
    model.save_pretrained(tmp_path / "folded")
    tokenizer.save_pretrained(tmp_path / "folded")
    rows = pipeline("text-classification", str(tmp_path / "folded"), top_k=None)(texts)
    found = [sorted((one["label"] for one in row if one["score"] >= 0.5), key=NAMES.index) for row in rows]
    assert found == decided
    assert len({tuple(row) for row in decided}) > 2
    assert predict(AutoModelForSequenceClassification.from_pretrained(tmp_path), inputs) == decided


def test_an_image_model_is_calibrated_and_folded(make_vit):
    model, pixels = make_vit(), {"pixel_values": torch.randn(16, 3, 8, 8)}
    write_thresholds(model, np.median(scores_of(model, pixels), axis=0) + 1e-4)
    decided = predict(model, pixels)
    calibrate(model, state_of())
    fold_thresholds(model)
    assert [[f"LABEL_{label}" for label in np.flatnonzero(row >= 0)] for row in scores_of(model, pixels)] == decided
    assert len({tuple(row) for row in decided}) > 2


def test_a_single_label_model_decides_alike_after_both():
    model = named_bert(problem_type="single_label_classification")
    write_thresholds(model)
    decided = predict(model, {"input_ids": TOKENS})
    margins = scores_of(model) - THRESHOLDS
    assert decided == [[NAMES[index]] for index in margins.argmax(1)]
    calibrate(model, state_of())
    assert predict(model, {"input_ids": TOKENS}) == decided
    fold_thresholds(model)
    assert [[NAMES[index]] for index in scores_of(model).argmax(1)] == decided


def test_tuning_again_after_folding_can_be_folded_again():
    model = scenarios.make_bert()
    write_thresholds(model)
    fold_thresholds(model)
    write_thresholds(model, [0.1] * 5)
    expected = model.classifier.bias.detach() - 0.1
    fold_thresholds(model)
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


@pytest.mark.parametrize("model", [scenarios.make_bert(), nn.Linear(4, 5)], ids=["transformer", "plain"])
def test_without_thresholds_there_is_nothing_to_fold(model):
    with pytest.raises(ValueError, match=r"no thresholds to fold; choose them with trainer\.tune_thresholds"):
        fold_thresholds(model)


# heads


class Head(nn.Module):
    """A hidden layer as wide as there are labels, and a head that is not like others."""

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
def test_a_head_whose_bias_does_more_or_less_is_refused_unchanged(kind, dtype):
    model = Head(kind).to(dtype)
    before = weights_of(model)
    message = (
        r"no bias that moves its logits by exactly as much.*; subtract log_odds_shift\(plm_state\) from the logits"
    )
    with pytest.raises(ValueError, match=message):
        calibrate(model, state_of(4), ROWS.to(dtype))
    assert_unchanged(model, before)


@pytest.mark.parametrize("kind", ["tanh", "cosine", "clamped", "softmax", "halves", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_hides_no_head_that_bends_its_logits(kind, dtype):
    with pytest.raises(ValueError, match="no bias that moves its logits"):
        calibrate(Head(kind).to(dtype), state_of(4), ROWS.to(dtype))
    calibrate(Head("plain").to(dtype), state_of(4), ROWS.to(dtype))


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
    with pytest.raises(ValueError, match=r"keep the thresholds: hf_plm\.predict decides with them"):
        fold_thresholds(model)
    assert read_decisions(model.config).thresholds == THRESHOLDS


@pytest.mark.parametrize("num_labels", [1, 16])
@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
def test_layers_as_wide_as_there_are_labels_are_not_mistaken(make, num_labels):
    torch.manual_seed(0)
    model = make(num_labels)
    write_thresholds(model, np.linspace(-1, 1, num_labels))
    before = weights_of(model)
    fold_thresholds(model)
    changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(changed) == 1
    assert changed[0].endswith(("classifier.bias", "classifier.out_proj.bias", "modules_to_save.default.bias"))


def test_a_model_under_autocast_is_no_exception():
    model = scenarios.make_bert()
    forward = model.forward

    def autocast(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = forward(*args, **kwargs)
        outputs["logits"] = outputs.logits.float()  # as accelerate does
        return outputs

    model.forward = autocast
    write_thresholds(model)
    expected = model.classifier.bias.detach() - torch.tensor(THRESHOLDS)
    fold_thresholds(model)
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, r"no inputs can be made up .*; pass inputs="),
        (torch.ones(2, 5), "the model does not run on these inputs"),
        (torch.ones(0, 6), r"the model's logits have shape \(0, 4\)"),
    ],
)
def test_inputs_that_show_nothing_are_named(inputs, message):
    model = Head("plain")
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        calibrate(model, state_of(4), inputs)
    assert_unchanged(model, before)


def test_inputs_may_be_a_batch_as_the_tokenizer_gives_it():
    model = scenarios.make_bert()
    write_thresholds(model)
    expected = model.classifier.bias.detach() - torch.tensor(THRESHOLDS)
    fold_thresholds(model, {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)})
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


def test_a_model_without_a_configuration_is_calibrated_and_has_nothing_to_record():
    model = Head("plain")
    calibrate(model, state_of(4), ROWS)
    assert read_decisions(None) == Decisions()
    assert thresholds_of(None) is None
    with pytest.raises(ValueError, match="no configuration"):
        write_decisions(None, Decisions())
    adapted = get_peft_model(nn.Sequential(Head("plain")), LoraConfig(target_modules=["0.scorer"]))
    calibrate(adapted, state_of(4), ROWS)  # its config is a dictionary


# the entry in the configuration


def test_the_entry_is_plain_json_and_comes_back(tmp_path):
    model = named_bert()
    write_thresholds(model, THRESHOLDS, tuned_on="those")
    assert json.loads(json.dumps(model.config.plm)) == model.config.plm
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert read_decisions(again.config) == read_decisions(model.config)
    np.testing.assert_array_equal(thresholds_of(again.config), THRESHOLDS)


def test_decisions_end_with_another_head(tmp_path, caplog):
    model = scenarios.make_bert()
    write_thresholds(model)
    calibrate(model, state_of())
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert thresholds_of(again.config) is None
    assert "ended: they are for 5 labels, and the model has 3" in caplog.text
    assert not hasattr(again.config, "plm")
    calibrate(again, state_of(3))
    assert read_decisions(again.config).scores == "probabilities"


@pytest.mark.parametrize("names", [["green", "red", *NAMES[2:]], ["new", *NAMES[1:]], None])
def test_decisions_end_with_other_names_or_another_order(names, caplog):
    model = named_bert()
    write_thresholds(model)
    model.config.id2label = dict(enumerate(names or [f"LABEL_{index}" for index in range(5)]))
    model.config.label2id = {name: index for index, name in model.config.id2label.items()}
    assert read_decisions(model.config).thresholds is None
    assert "ended: they are for other label names, or another order of them, than" in caplog.text
    assert len(caplog.messages) == 1
    assert thresholds_of(model.config) is None
    assert len(caplog.messages) == 1


def test_decisions_for_generic_names_fit_the_names_that_come_later():
    model = scenarios.make_bert()
    write_thresholds(model)
    model.config.id2label = dict(enumerate(NAMES))
    model.config.label2id = {name: index for index, name in enumerate(NAMES)}
    np.testing.assert_array_equal(thresholds_of(model.config), THRESHOLDS)


def test_keys_that_json_made_text_are_the_same_names():
    model = named_bert()
    write_thresholds(model, [-9.0, 9, 9, 9, -9])
    model.config.id2label = json.loads(json.dumps(model.config.id2label))
    assert predict(model, {"input_ids": TOKENS[:2]}) == [["red", "square"]] * 2


def test_decisions_end_when_training_begins(make_args, caplog):
    trainer = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=scenarios.make_rows(64))
    write_thresholds(trainer.model)
    trainer.train()
    assert read_decisions(trainer.model.config).thresholds is None
    assert "ended: " in caplog.text
    caplog.clear()
    end_decisions(trainer.model.config, "again")
    end_decisions(None, "again")
    assert not caplog.messages


@pytest.mark.parametrize("name", ["plm_thresholds", "plm_calibrated"])
def test_an_entry_of_the_earlier_format_is_refused_and_can_be_ended(name, caplog):
    model = scenarios.make_bert()
    setattr(model.config, name, [0.5] * 5 if name == "plm_thresholds" else True)
    for read in (read_decisions, thresholds_of):
        with pytest.raises(ValueError, match=rf"config\.{name} was written by an earlier version.*del model\.config"):
            read(model.config)
    end_decisions(model.config, "the model is trained further")
    assert f"config.{name}) ended: the model is trained further" in caplog.text
    assert read_decisions(model.config).thresholds is None


@pytest.mark.parametrize(
    "entry",
    [
        [1, 2],
        {"thresholds": [0.1, 0.2], "num_labels": 5},
        {"thresholds": [0.1, 0.2, 0.3, 0.4, float("nan")]},
        {"thresholds": ["a"] * 5},
        {"scores": "calibrated"},
        {"limits": [0] * 5},
    ],
)
def test_a_damaged_entry_is_named(entry):
    model = scenarios.make_bert()
    model.config.plm = entry
    with pytest.raises(ValueError, match=r"model\.config\.plm is damaged .*restore it from a copy"):
        read_decisions(model.config)


# predicting


def test_predict_gives_the_names_above_the_thresholds():
    model, inputs = named_bert(), {"input_ids": TOKENS}
    model.train()
    names = predict(model, inputs)
    assert not model.training
    logits = scores_of(model)
    assert names == [[NAMES[c] for c in range(5) if row[c] >= 0] for row in logits]
    write_thresholds(model, [-1e3, 1e3, 0, 0, 0])
    assert all("red" in row and "green" not in row for row in predict(model, inputs))
    model.config.problem_type = "single_label_classification"
    assert predict(model, inputs) == [["red"]] * len(logits)
    end_decisions(model.config, "a test")
    assert predict(model, inputs) == [[NAMES[row.argmax()]] for row in logits]


class Fixed(nn.Module):
    """A model that gives fixed logits."""

    def __init__(self, logits, config):
        super().__init__()
        self.logits, self.config = logits, config

    def forward(self, input_ids):
        return (self.logits,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("values", [(70, 68, 45, 44), (22, 21, 18, 17.5), (-70, -71, -80, -81), "neighbours"])
def test_predict_and_metrics_decide_alike_for_every_logit(values, dtype):
    if values == "neighbours":
        low = torch.tensor(3.0, dtype=dtype)
        high = torch.nextafter(low, torch.tensor(9.0, dtype=dtype))
        logits = torch.stack([high, high, low, low])[:, None]
    else:
        logits = torch.tensor(values, dtype=dtype)[:, None]
    labels = np.array([[1], [1], [0], [0]])
    config = scenarios.make_bert(1).config
    model = Fixed(logits, config)
    thresholds = tune_thresholds(logits.double(), labels)
    write_decisions(config, Decisions(1, thresholds=tuple(thresholds)))
    assert predict(model, {"input_ids": None}) == [["LABEL_0"], ["LABEL_0"], [], []]
    with evaluating(LabelCounts([2], [2]), thresholds_of(config)):
        scores = multilabel_compute_metrics(LabelCounts([2], [2]))(EvalPrediction(logits, labels))
    assert scores["micro_f1"] == scores["exact_match"] == 1


def test_infinite_logits_are_decided():
    model = Fixed(torch.tensor([[torch.inf, -torch.inf]]), scenarios.make_bert(2).config)
    assert predict(model, {"input_ids": None}) == [["LABEL_0"]]
    write_thresholds(model, [1e300, -1e300])
    assert predict(model, {"input_ids": None}) == [["LABEL_0"]]

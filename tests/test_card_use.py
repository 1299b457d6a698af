"""The code in a model card runs, and gives the names, scores and decisions of the saved model."""

import re
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from scipy.special import expit
from transformers import ViTImageProcessorPil

from hf_plm import PLMTrainer, predict
from hf_plm.decisions import Decisions, write_decisions

NAMES = ["$", "a|b", "line\nbreak", '"quoted"', "😀"]
TEXT = "a text"


def code_of(trainer, **kwargs):
    """The code in the card, after the model was saved in the folder that it names."""
    trainer.save_model("mine/tagger")
    trainer.create_model_card(model_name="mine/tagger", **kwargs)
    (code,) = re.findall(r"```python\n(.*?)```", card_of(trainer), re.DOTALL)
    return code


def card_of(trainer):
    return (Path(trainer.args.output_dir) / "README.md").read_text()


def run(code):
    exec(compile(code, "README.md", "exec"), names := {})
    return names


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_trainer(make_bert, text_data, make_args):
    def make(model=None, data=text_data, processor=True, **kwargs):
        model = model or make_bert(id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)})
        processing_class = scenarios.make_tokenizer() if processor else None
        trainer = PLMTrainer(model, make_args(), train_dataset=data, processing_class=processing_class, **kwargs)
        trainer.train()
        return trainer

    return make


def logits_of(trainer):
    inputs = scenarios.make_tokenizer()(TEXT, return_tensors="pt")
    with torch.no_grad():
        return trainer.model.eval()(**inputs).logits[0].double().numpy()


def logits_by_code(trainer, names, **kwargs):
    """The probabilities that the card's code computes; another copy of the weights differs in the last bit."""
    found = {each["label"]: each["score"] for each in run(code_of(trainer, **kwargs))["logits"]}
    return np.array([found[name] for name in names])


def set_thresholds(trainer, logits):
    """The scores of the first two labels equal their thresholds; the others are just below."""
    thresholds = np.where(np.arange(len(logits)) < 2, logits, np.nextafter(logits, np.inf))
    write_decisions(trainer.model.config, Decisions(len(logits), thresholds=tuple(thresholds.tolist())))


def assert_same_scores(found, logits, names=NAMES):
    found = {each["label"]: each["score"] for each in found}
    np.testing.assert_allclose([found[name] for name in names], expit(logits), rtol=1e-5)


def test_a_text_model_gives_names_scores_and_decisions(make_trainer):
    trainer = make_trainer()
    logits = logits_of(trainer)
    names = run(code_of(trainer))
    assert_same_scores(names["scores"], logits)
    assert set(names["predicted"]) == {name for name, logit in zip(NAMES, logits, strict=True) if logit >= 0}


def test_thresholds_decide_to_the_last_bit(make_trainer):
    trainer = make_trainer()
    set_thresholds(trainer, logits_by_code(trainer, NAMES))
    names = run(code_of(trainer))
    assert set(names["predicted"]) == set(NAMES[:2])
    assert "`hf_plm.predict(model, texts, tokenizer)` does the same" in card_of(trainer)
    assert predict(names["tagger"].model, [TEXT], names["tagger"].tokenizer) == [NAMES[:2]]


def test_saturated_scores_are_decided_by_their_logits(make_trainer):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.classifier.bias += torch.tensor([70.0, 68.0, 45.0, 44.0, 43.0])
    set_thresholds(trainer, logits_by_code(trainer, NAMES))
    assert set(run(code_of(trainer))["predicted"]) == set(NAMES[:2])


@pytest.mark.parametrize("base_labels", [5, 3])
def test_an_adapter_has_the_names_thresholds_and_kind_of_its_model(base_labels, make_bert, make_trainer):
    make_bert(base_labels).save_pretrained("someone/base")
    base = make_bert(id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)})
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["classifier"])
    trainer = make_trainer(get_peft_model(base, config))
    set_thresholds(trainer, logits_by_code(trainer, NAMES, finetuned_from="someone/base"))
    names = run(code_of(trainer, finetuned_from="someone/base"))
    assert names["model"].config.problem_type == "multi_label_classification"
    assert_same_scores(names["scores"], logits_of(trainer))
    assert set(names["predicted"]) == set(NAMES[:2])


def test_a_single_label_model_predicts_one_class(make_trainer, text_data):
    data = text_data.remove_columns("labels").add_column("labels", [row % 5 for row in range(64)])
    trainer = make_trainer(data=data)
    logits = logits_of(trainer)
    names = run(code_of(trainer))
    assert sum(each["score"] for each in names["scores"]) == pytest.approx(1)
    assert names["predicted"] == NAMES[logits.argmax()]
    thresholds = logits - np.array([0.0, 1.0, 3.0, 2.0, 0.5])
    write_decisions(trainer.model.config, Decisions(5, thresholds=tuple(thresholds.tolist())))
    assert run(code_of(trainer))["predicted"] == NAMES[2]


def test_an_image_model_gives_every_label(make_vit, make_args, folder):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(folder / "picture.png")
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    inputs = processor(list(pixels), return_tensors="np")["pixel_values"]
    labels = [[NAMES[row % 5], NAMES[(row + 1) % 5]] for row in range(16)]
    rows = Dataset.from_dict({"pixel_values": inputs, "labels": labels})
    args = make_args(remove_unused_columns=False)
    trainer = PLMTrainer(make_vit(), args, train_dataset=rows, processing_class=processor)
    trainer.train()
    with torch.no_grad():
        logits = trainer.model.eval()(torch.tensor(inputs[:1])).logits[0].double().numpy()
    set_thresholds(trainer, logits_by_code(trainer, sorted(NAMES)))
    names = run(code_of(trainer))
    assert_same_scores(names["scores"], logits, sorted(NAMES))
    assert set(names["predicted"]) == set(sorted(NAMES)[:2])
    assert "`hf_plm.predict(model, pictures, image_processor)` does the same" in card_of(trainer)
    model, image_processor = names["tagger"].model, names["tagger"].image_processor
    assert predict(model, ["picture.png"], image_processor) == [sorted(NAMES)[:2]]


def test_without_a_tokenizer_the_code_loads_the_model(make_trainer):
    trainer = make_trainer(processor=False)
    names = run(code_of(trainer))
    inputs = scenarios.make_tokenizer()(TEXT, return_tensors="pt")
    np.testing.assert_allclose(names["model"](**inputs).logits[0].detach(), logits_of(trainer), rtol=1e-5)
    sentence = 'With its tokenizer in the same folder, `pipeline("text-classification", "mine/tagger")`'
    assert sentence in card_of(trainer)


def test_a_tokenizer_that_is_already_in_the_folder_counts(make_trainer):
    trainer = make_trainer(processor=False)
    for each in (trainer.args.output_dir, "mine/tagger"):
        scenarios.make_tokenizer().save_pretrained(each)
    assert_same_scores(run(code_of(trainer))["scores"], logits_of(trainer))


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ("trained", "Masked training raises the scores of rare labels"),
        ("probabilities", "The scores are calibrated: they are probabilities"),
        ("decisions", "The thresholds are in the classifier's bias"),
    ],
)
def test_the_card_explains_the_scores(scores, sentence, make_trainer):
    trainer = make_trainer()
    write_decisions(trainer.model.config, Decisions(5, scores=scores))
    code_of(trainer)
    assert sentence in card_of(trainer)

"""Train a multi-label text classifier with Partial Label Masking.

Without arguments: descriptions of Debian packages with their 365 debtags, and a small ModernBERT with a tokenizer of
its own, both made on the spot; two minutes on two CPU cores.

    python examples/train_text.py
    python examples/train_text.py --plm_preset off --output_dir outputs/text-bce

A pretrained model, data of the Hub or of your own, several processes, and the result on the Hub:

    python examples/train_text.py --model_name_or_path answerdotai/ModernBERT-base --learning_rate 5e-5 \
        --dataset_name ORGANISATION/DATASET --max_length 256
    python examples/train_text.py --train_file train.csv --validation_file validation.csv --text_column comment
    accelerate launch examples/train_text.py --push_to_hub --hub_model_id my-model

`labels` may hold multi-hot vectors, class ids, class names, or names in one text: `a|b`, or `['a', 'b']`; with
--label_columns toxic,obscene or 'tag_*' there is one column of 1 and 0 per label.
"""

from dataclasses import dataclass, field
from pathlib import Path

from datasets import DatasetDict
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    HfArgumentParser,
    ModernBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    set_seed,
)

from hf_plm import (
    LabelSpace,
    PLMTrainer,
    PLMTrainingArguments,
    count_labels,
    label_space_of,
    multilabel_compute_metrics,
    read_labeled,
)

DATA = Path(__file__).parent / "data" / "debtags"


@dataclass
class ScriptArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Default: a small ModernBERT, untrained."})
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration, if it has several."})
    validation_split: str = field(default="validation", metadata={"help": "Its split for evaluation."})
    train_file: str | None = field(default=None, metadata={"help": "A csv, tsv, json or parquet file of your own."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation."})
    text_column: str = field(default="text", metadata={"help": "The column of the texts."})
    max_length: int = field(default=48, metadata={"help": "Longer texts are cut to this many tokens."})
    label_column: str = field(default="labels", metadata={"help": "The column of the labels."})
    label_columns: str | None = field(
        default=None, metadata={"help": "Instead of it, one column of 1 and 0 per label: a,b,c or tag_*."}
    )
    separator: str | None = field(
        default=None, metadata={"help": "Between the names of a label column of text. Default: |, ; or a comma."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many rows, drawn at random."})


def load_data(args: ScriptArguments) -> DatasetDict:
    if (args.train_file is None) != (args.validation_file is None):
        raise ValueError("give both --train_file and --validation_file")
    train_file = args.train_file or str(DATA / "train.parquet")
    files = {"train": train_file, "validation": args.validation_file or str(DATA / "validation.parquet")}
    is_of_hub = args.dataset_name is not None
    return read_labeled(
        args.dataset_name if is_of_hub else files,
        config=args.dataset_config,
        split={"train": "train", "validation": args.validation_split} if is_of_hub else None,
        label_column=args.label_column,
        label_columns=args.label_columns,
        separator=args.separator,
    )


def train_tokenizer(texts: list[str], vocab_size: int = 8000) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())  # the training of WordPiece breaks ties in another way every time
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def make_model(
    args: ScriptArguments, space: LabelSpace, texts: list[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if args.model_name_or_path is not None:
        model = AutoModelForSequenceClassification.from_pretrained(
            args.model_name_or_path, **space.config_arguments(), ignore_mismatched_sizes=True
        )
        return model, AutoTokenizer.from_pretrained(args.model_name_or_path)
    tokenizer = train_tokenizer(texts)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        classifier_pooling="mean",  # from scratch, a CLS token learns nothing in a few epochs
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=None,
        eos_token_id=None,
        **space.config_arguments(),
    )
    return AutoModelForSequenceClassification.from_config(config), tokenizer


def main(argv: list[str] | None = None) -> PLMTrainer:
    # 1. Arguments
    parser = HfArgumentParser((ScriptArguments, PLMTrainingArguments))
    parser.set_defaults(
        output_dir="outputs/text",
        num_train_epochs=4,
        learning_rate=2e-3,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        remove_unused_columns=False,
    )
    script_args, training_args = parser.parse_args_into_dataclasses(argv)
    set_seed(training_args.seed)

    # 2. Data
    data = load_data(script_args)
    if script_args.max_train_samples is not None:
        num_rows = min(script_args.max_train_samples, len(data["train"]))
        data["train"] = data["train"].shuffle(training_args.seed).select(range(num_rows))
    space = label_space_of(*data.values())  # rare labels may be in one split only
    counts = count_labels(data["train"], space.num_labels, label_names=space.names)

    # 3. Model
    model, tokenizer = make_model(script_args, space, data["train"][script_args.text_column])

    # 4. Inputs of the model, made when a row is read
    def preprocess(rows: dict) -> dict:
        inputs = tokenizer(rows[script_args.text_column], truncation=True, max_length=script_args.max_length)
        return {**inputs, "labels": rows["labels"]}

    data = data.with_transform(preprocess)

    # 5. Train
    trainer = PLMTrainer(
        model,
        training_args,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        compute_metrics=multilabel_compute_metrics(counts),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)

    # 6. Evaluate, save, share
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    trainer.save_model()
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return trainer


if __name__ == "__main__":
    main()

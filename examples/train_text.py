"""Train a multi-label text classifier with Partial Label Masking.

Without arguments it trains a small ModernBERT and its tokenizer from scratch on descriptions of Debian packages with
365 debtags; two minutes on two CPU cores.

    python examples/train_text.py
    python examples/train_text.py --plm_preset off --output_dir outputs/text-bce

With a pretrained model, data of the Hub, your own data, or several processes and an upload to the Hub:

    python examples/train_text.py --model_name_or_path answerdotai/ModernBERT-base --learning_rate 5e-5 \
        --dataset_name ORGANISATION/DATASET --max_length 256
    python examples/train_text.py --train_file train.csv --validation_file validation.csv --text_column comment
    accelerate launch examples/train_text.py --push_to_hub --hub_model_id my-model

`labels` may hold multi-hot vectors, class ids, class names, or names in one text: `a|b`, or `['a', 'b']`. For one
column of 1 and 0 per label, give --label_columns toxic,obscene or 'tag_*'.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser, set_seed

from hf_plm import (
    PLMTrainer,
    PLMTrainingArguments,
    count_labels,
    label_space_of,
    multilabel_compute_metrics,
)
from hf_plm.recipes import (
    EVERY_EPOCH,
    SMALL_TEXT,
    DataArguments,
    draw_rows,
    evaluate_and_save,
    text_inputs,
    text_model,
    text_tokenizer,
)

DATA = Path(__file__).parent / "data" / "debtags"


@dataclass
class ScriptArguments(DataArguments):
    text_column: str = field(default="text", metadata={"help": "The column of the texts."})
    max_length: int = field(default=48, metadata={"help": "Longer texts are cut to this many tokens."})


def main(argv: list[str] | None = None) -> PLMTrainer:
    # 1. Arguments
    parser = HfArgumentParser((ScriptArguments, PLMTrainingArguments))
    parser.set_defaults(output_dir="outputs/text", **SMALL_TEXT, **EVERY_EPOCH)
    script_args, training_args = parser.parse_args_into_dataclasses(argv)
    set_seed(training_args.seed)

    # 2. Data
    data = script_args.read_data(DATA)
    data["train"] = draw_rows(data["train"], script_args.max_train_samples, training_args.seed)
    space = label_space_of(*data.values())  # rare labels may be in one split only
    counts = count_labels(data["train"], space.num_labels, label_names=space.names)

    # 3. Tokenizer and model
    name, column = script_args.model_name_or_path, script_args.text_column
    tokenizer = text_tokenizer(name, data["train"][column], script_args.max_length)
    model = text_model(name, space, tokenizer)

    # 4. Inputs of the model, computed when a row is read
    data = data.with_transform(text_inputs(tokenizer, column))

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
    trainer.log_metrics("eval", evaluate_and_save(trainer))
    return trainer


if __name__ == "__main__":
    main()

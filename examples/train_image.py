"""Train an image tagger with Partial Label Masking.

Without arguments: Open Clip Art pictures with 113 of their authors' tags, and a small ViT made on the spot; three
minutes on two CPU cores.

    python examples/train_image.py
    python examples/train_image.py --plm_preset off --output_dir outputs/image-bce

A pretrained model, data of the Hub or of your own, several processes, and the result on the Hub:

    python examples/train_image.py --model_name_or_path google/vit-base-patch16-224-in21k --learning_rate 5e-5 \
        --dataset_name ORGANISATION/DATASET
    python examples/train_image.py --train_file train.parquet --validation_file validation.parquet
    python examples/train_image.py --train_file train.csv --validation_file validation.csv --image_folder pictures
    accelerate launch examples/train_image.py --push_to_hub --hub_model_id my-model

`labels` may hold multi-hot vectors, class ids, class names, or names in one text: `a|b`, or `['a', 'b']`; with
--label_columns tag_dog,tag_cat or 'tag_*' there is one column of 1 and 0 per label. In csv and json files `image` is
the path of a picture, with --image_folder the path in that folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

from datasets import DatasetDict, Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    HfArgumentParser,
    PreTrainedModel,
    ViTConfig,
    ViTImageProcessorPil,
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

DATA = Path(__file__).parent / "data" / "clipart"


@dataclass
class ScriptArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "Default: a small ViT, untrained."})
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration, if it has several."})
    validation_split: str = field(default="validation", metadata={"help": "Its split for evaluation."})
    train_file: str | None = field(default=None, metadata={"help": "A csv, tsv, json or parquet file of your own."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation."})
    image_column: str = field(default="image", metadata={"help": "The column of the pictures, or of their files."})
    image_folder: str | None = field(default=None, metadata={"help": "Where the files of the pictures are."})
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
    data = read_labeled(
        args.dataset_name if is_of_hub else files,
        config=args.dataset_config,
        split={"train": "train", "validation": args.validation_split} if is_of_hub else None,
        label_column=args.label_column,
        label_columns=args.label_columns,
        separator=args.separator,
        image_column=args.image_column,
        image_folder=args.image_folder,
    )
    return data.cast_column("image", Image(mode="RGB"))


def make_model(args: ScriptArguments, space: LabelSpace) -> tuple[PreTrainedModel, BaseImageProcessor]:
    if args.model_name_or_path is not None:
        model = AutoModelForImageClassification.from_pretrained(
            args.model_name_or_path, **space.config_arguments(), ignore_mismatched_sizes=True
        )
        return model, AutoImageProcessor.from_pretrained(args.model_name_or_path)
    config = ViTConfig(
        image_size=64,
        patch_size=8,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        **space.config_arguments(),
    )
    processor = ViTImageProcessorPil(size={"height": 64, "width": 64})
    return AutoModelForImageClassification.from_config(config), processor


def main(argv: list[str] | None = None) -> PLMTrainer:
    # 1. Arguments
    parser = HfArgumentParser((ScriptArguments, PLMTrainingArguments))
    parser.set_defaults(
        output_dir="outputs/image",
        num_train_epochs=8,
        learning_rate=1e-3,
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
    model, processor = make_model(script_args, space)

    # 4. Inputs of the model, made when a row is read
    def preprocess(rows: dict) -> dict:
        inputs = processor(rows["image"], return_tensors="pt")
        return {**inputs, "labels": rows["labels"]}

    data = data.with_transform(preprocess)

    # 5. Train
    trainer = PLMTrainer(
        model,
        training_args,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=processor,
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

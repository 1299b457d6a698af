"""Train an image tagger with Partial Label Masking.

Without arguments it trains a small ViT from scratch on Open Clip Art pictures with 113 tags; three minutes on two CPU
cores.

    python examples/train_image.py
    python examples/train_image.py --plm_preset off --output_dir outputs/image-bce

With a pretrained model, data of the Hub, your own data, or several processes and an upload to the Hub:

    python examples/train_image.py --model_name_or_path google/vit-base-patch16-224-in21k --learning_rate 5e-5 \
        --dataset_name ORGANISATION/DATASET
    python examples/train_image.py --train_file train.parquet --validation_file validation.parquet
    python examples/train_image.py --train_file train.csv --validation_file validation.csv --image_folder pictures
    accelerate launch examples/train_image.py --push_to_hub --hub_model_id my-model

`labels` may hold multi-hot vectors, class ids, class names, or names in one text: `a|b`, or `['a', 'b']`. For one
column of 1 and 0 per label, give --label_columns tag_dog,tag_cat or 'tag_*'. In csv and json files `image` is the path
of a picture, with --image_folder relative to that folder.
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
    SMALL_IMAGE,
    DataArguments,
    draw_rows,
    evaluate_and_save,
    image_inputs,
    image_model,
    image_processor,
)

DATA = Path(__file__).parent / "data" / "clipart"


@dataclass
class ScriptArguments(DataArguments):
    image_column: str = field(default="image", metadata={"help": "The column of the pictures, or of their files."})
    image_folder: str | None = field(default=None, metadata={"help": "The folder of the files of the pictures."})

    def columns(self) -> dict[str, str | None]:
        return {**super().columns(), "image_column": self.image_column, "image_folder": self.image_folder}


def main(argv: list[str] | None = None) -> PLMTrainer:
    # 1. Arguments
    parser = HfArgumentParser((ScriptArguments, PLMTrainingArguments))
    parser.set_defaults(output_dir="outputs/image", **SMALL_IMAGE, **EVERY_EPOCH)
    script_args, training_args = parser.parse_args_into_dataclasses(argv)
    set_seed(training_args.seed)

    # 2. Data
    data = script_args.read_data(DATA)
    data["train"] = draw_rows(data["train"], script_args.max_train_samples, training_args.seed)
    space = label_space_of(*data.values())  # rare labels may be in one split only
    counts = count_labels(data["train"], space.num_labels, label_names=space.names)

    # 3. Image processor and model
    processor = image_processor(script_args.model_name_or_path)
    model = image_model(script_args.model_name_or_path, space)

    # 4. Inputs of the model, computed when a row is read
    data = data.with_transform(image_inputs(processor))

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
    trainer.log_metrics("eval", evaluate_and_save(trainer))
    return trainer


if __name__ == "__main__":
    main()

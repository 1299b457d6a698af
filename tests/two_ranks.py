"""Runs on each of two ranks, under torchrun: `torchrun --nproc_per_node 2 two_ranks.py FOLDER`.

`FOLDER` holds the checkpoints of `killed.py`. The results are written to `FOLDER/rank0.pt` and `FOLDER/rank1.pt`.
"""

import gc
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import scenarios
import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from one_pixel import save_one_pixel
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset
from transformers import BertForSequenceClassification, TrainerCallback
from transformers.distributed import DistributedConfig

import hf_plm.few_passes
from hf_plm import LabelCounts, PLMLoss
from hf_plm.checkpoints import load_checkpoint, save_checkpoint


def scale(folder):
    """The same rows in one step as 2 x 8 and as 2 ranks x 2 micro-batches x 4; 37 rows do not divide evenly."""
    results = {}
    for name in scenarios.OBJECTIVES:
        results[name, "2 x 8"] = scenarios.run_scale(folder, name, 8, 1)
        results[name, "2 x 2 x 4"] = scenarios.run_scale(folder, name, 4, 2)
    results["not averaged"] = scenarios.run_scale(folder, "default", 4, 2, average_tokens_across_devices=False)
    results["uneven"] = scenarios.run_scale(folder, "default", 8, 1, rows=37)
    results["own losses"] = scenarios.run_scale(
        folder, "default", 4, 2, rows=37, trainer_class=scenarios.documented_trainer()
    )
    results["rarely logged"] = scenarios.run_scale(folder, "default", 4, 2, logging_steps=2)
    results["class ids"] = scenarios.run_scale(folder, "default", 4, 2, rows=37, unknown=0, sparse=True)
    return results


class Stream(IterableDataset):
    """An iterable data set of torch, without shards; a subclass knows its length."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)


class StreamWithLength(Stream):
    def __len__(self):
        return len(self.data)


def one_shard(data):
    return data.to_iterable_dataset()


def shards(data):
    return data.to_iterable_dataset(num_shards=2)


EACH_RANK_READS = {"accelerator_config": {"dispatch_batches": False}}
SPLIT = {"accelerator_config": {"split_batches": True}}


def streams(folder):
    """37 rows as a stream, which the ranks get unevenly: dispatched by rank 0, or read by each rank."""
    results = {}
    for name, stream, batch_size, how in (
        ("one shard", one_shard, 8, {}),
        ("two shards", shards, 8, {}),
        ("of torch", Stream, 8, {}),
        ("of torch, with a length", StreamWithLength, 8, {}),
        ("split", one_shard, 16, SPLIT),
        ("rows, split", lambda data: data, 16, SPLIT),
    ):
        results["stream", name] = scenarios.run_scale(
            folder, "default", batch_size, 1, rows=37, stream=stream, max_steps=3, **how
        )
    results["shards"] = scenarios.run_scale(
        folder, "paper", 8, 1, rows=37, stream=shards, eval_stream=lambda data: data, max_steps=3, **EACH_RANK_READS
    )
    results["refused"] = refused_streams(folder) | {"unequal": unequal_streams(folder)}
    return results


def refused_streams(folder):
    """The errors for streams that each rank reads itself, so that rows would count twice."""
    refused = {}
    rows = scenarios.make_rows(37)
    for name, stream in (("one shard", one_shard), ("shards", shards), ("length", StreamWithLength)):
        args = scenarios.make_args(folder, max_steps=3, per_device_train_batch_size=8, **EACH_RANK_READS)
        counts = scenarios.count_labels(rows)
        trainer = scenarios.PLMTrainer(
            scenarios.make_bert(), args, train_dataset=stream(rows), eval_dataset=stream(rows), label_counts=counts
        )
        for call in (trainer.train, trainer.evaluate, lambda trainer=trainer: trainer.predict(trainer.eval_dataset)):
            if (call, name) != (trainer.train, "shards"):
                with pytest.raises(ValueError) as error:
                    call()
                refused.setdefault(name, []).append(str(error.value))
    return refused


def unequal_streams(folder):
    """The error on a rank whose part of a stream ends before that of the other rank; None on the other rank."""
    rank, rows = dist.get_rank(), scenarios.make_rows(16)
    args = scenarios.make_args(folder, per_device_train_batch_size=8)
    trainer = scenarios.PLMTrainer(scenarios.make_bert(), args, train_dataset=rows)
    batches = list(trainer.get_train_dataloader())
    try:
        trainer.get_batch_samples(iter(batches[:rank]), 1, args.device)
    except ValueError as error:
        return str(error)


def masks(folder):
    """The masks of four batches, drawn twice."""
    drawn = []
    original = hf_plm.few_passes.sample_mask
    hf_plm.few_passes.sample_mask = lambda *args: drawn.append(original(*args)) or drawn[-1]
    for _ in range(2):
        args = scenarios.make_args(
            folder, max_steps=4, per_device_train_batch_size=8, learning_rate=0.0, plm_mask="random"
        )
        scenarios.PLMTrainer(scenarios.make_bert(), args, train_dataset=scenarios.make_rows(64)).train()
    hf_plm.few_passes.sample_mask = original
    return {"masks": drawn}


def resumed(folder):
    """Resumes the runs of `killed.py` and a run that one rank began, and makes the same runs without interruption."""
    results = {}
    for case in scenarios.CHECKPOINTS:
        left = scenarios.killed_folder(folder, case, 2)
        results["resumed", case] = scenarios.run_resumable(left, case, resume=True, world_size=2)
        results["whole", case] = scenarios.run_resumable(folder / "whole" / case, case, world_size=2)
    left = scenarios.killed_folder(folder, MIDDLE, 1) / "checkpoint-3"
    results["one then two"] = scenarios.run_resumable(folder / "one then two", MIDDLE, resume=str(left), world_size=2)
    return results


def sharded(folder):
    """A model that FSDP2 shards (`distributed_config`), and the same model with DDP; both accumulate and learn."""
    scenarios.make_bert().save_pretrained(folder / "start")  # rank 0 writes
    dist.barrier()
    shards = DistributedConfig(fsdp_size=2, fsdp_plan={"bert.encoder.layer.*": "free_full_weight"})
    sharded = BertForSequenceClassification.from_pretrained(folder / "start", distributed_config=shards)
    assert isinstance(sharded.classifier.weight, DTensor)
    results = {}
    for name, model in (("sharded", sharded), ("copied", scenarios.make_bert())):
        args = scenarios.make_args(
            folder / name,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="epoch",
            save_only_model=True,  # Trainer requires it for sharded models
        )
        data = scenarios.make_rows(40, unknown=0.2)
        trainer = scenarios.PLMTrainer(model, args, train_dataset=data, eval_dataset=data)
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        results[name] = {"losses": losses, "eval_loss": trainer.evaluate()["eval_loss"]}
        results[name]["history"] = trainer.plm_state.history
        if name == "sharded":
            with pytest.raises(ValueError) as error:
                trainer.train(resume_from_checkpoint=True)
            results["refusal"] = str(error.value)
    return results


class SaveOnFirstRank(TrainerCallback):
    """Only rank 0 saves the model in the middle of an epoch, as `Trainer` allows."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2 and args.process_index == 0:
            self.trainer.save_model(f"{args.output_dir}/middle")


def saved_by_one(folder):
    """A run in which only rank 0 saves in the middle, and one without this save; the first is resumed from there."""
    results = {}
    for name in ("whole", "saved by one"):
        args = scenarios.make_args(
            folder / name,
            num_train_epochs=2,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            save_strategy="steps",
            save_steps=3,
        )
        callback = SaveOnFirstRank()
        callbacks = [callback] if name == "saved by one" else []
        data = scenarios.make_rows(64)
        trainer = scenarios.PLMTrainer(scenarios.make_bert(), args, train_dataset=data, callbacks=callbacks)
        callback.trainer = trainer
        trainer.train()
        results[name] = {"history": trainer.plm_state.history, "histograms": trainer.plm_state.histograms}
    trainer = scenarios.PLMTrainer(scenarios.make_bert(), args, train_dataset=data)
    trainer.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-3")
    results["resumed"] = {"history": trainer.plm_state.history, "histograms": trainer.plm_state.histograms}
    return {"saved": results}


class WithLoss(nn.Module):
    """A model with its loss as a submodule, as in a `LightningModule`."""

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(4, 3)
        self.plm_loss = PLMLoss(LabelCounts([5, 5, 5], [5, 5, 5]))

    def forward(self, inputs, labels):
        return self.plm_loss(self.model(inputs), labels)


def saved_in_the_middle(folder):
    """A state that first rank 0 and then both ranks save. Each rank has seen different rows, in a model under DDP."""
    rank = dist.get_rank()
    wrapped = DistributedDataParallel(WithLoss())
    state = wrapped.module.plm_loss.state
    for _ in range(2):  # DDP broadcasts buffers when a step begins
        wrapped(torch.randn(2 + 3 * rank, 4), torch.ones(2 + 3 * rank, 3)).backward()
    seen = {"own": state.histograms.sum().item()}
    if rank == 0:
        save_checkpoint(state, folder / "alone")
    dist.barrier()
    with pytest.raises(ValueError) as error:
        load_checkpoint(folder / "alone")
    seen["refusal"] = str(error.value)
    save_checkpoint(state, folder / "both")
    dist.barrier()
    loaded = load_checkpoint(folder / "both")
    seen["loaded"] = torch.equal(loaded.histograms, state.histograms)
    wrapped.module.plm_loss.end_epoch()
    seen["summed"] = state.histograms.sum().item()
    return {"saved in the middle": seen}


MIDDLE = "in the middle of an epoch"


def main():
    gc.freeze()  # `Trainer` collects garbage when it starts to train
    Figure.savefig = save_one_pixel
    folder = Path(sys.argv[1])
    args = scenarios.make_args(folder)
    assert args.world_size == 2, args.world_size
    result = {"world_size": args.world_size, **scale(folder), **masks(folder), **resumed(folder)}
    result |= streams(folder) | saved_by_one(folder) | saved_in_the_middle(folder)
    if hasattr(DistributedConfig, "fsdp_plan"):
        result |= sharded(folder)
    torch.save(result, folder / f"rank{args.process_index}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

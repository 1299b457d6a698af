"""Runs on each of two ranks, under torchrun: `torchrun --nproc_per_node 2 two_ranks.py FOLDER`.

`FOLDER` holds what `killed.py` left. What the tests look at is written to `FOLDER/rank0.pt` and `FOLDER/rank1.pt`.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import scenarios
import torch
import torch.distributed as dist

import hf_plm.loss


def scale(folder):
    """The same rows in one step as 2 x 8 and as 2 ranks x 2 micro-batches x 4; 37 rows do not divide evenly."""
    results = {}
    for name in scenarios.OBJECTIVES:
        results[name, "2 x 8"] = scenarios.run_scale(folder, name, 8, 1)
        results[name, "2 x 2 x 4"] = scenarios.run_scale(folder, name, 4, 2)
    results["not averaged"] = scenarios.run_scale(folder, "default", 4, 2, average_tokens_across_devices=False)
    results["uneven"] = scenarios.run_scale(folder, "default", 8, 1, rows=37)
    return results


def masks(folder):
    """The masks of four batches, drawn twice."""
    drawn = []
    original = hf_plm.loss.sample_mask
    hf_plm.loss.sample_mask = lambda *args: drawn.append(original(*args)) or drawn[-1]
    for _ in range(2):
        args = scenarios.make_args(folder, max_steps=4, per_device_train_batch_size=8, learning_rate=0.0)
        scenarios.PLMTrainer(scenarios.make_bert(), args, train_dataset=scenarios.make_rows(64)).train()
    hf_plm.loss.sample_mask = original
    return {"masks": drawn}


def resumed(folder):
    """Resumes what `killed.py` left, beside runs that were never interrupted, and a run that one rank began."""
    results = {}
    for case in scenarios.CHECKPOINTS:
        left = scenarios.killed_folder(folder, case, 2)
        results["resumed", case] = scenarios.run_resumable(left, case, resume=True, world_size=2)
        results["whole", case] = scenarios.run_resumable(folder / "whole" / case, case, world_size=2)
    left = scenarios.killed_folder(folder, MIDDLE, 1) / "checkpoint-3"
    results["one then two"] = scenarios.run_resumable(folder / "one then two", MIDDLE, resume=str(left), world_size=2)
    return results


MIDDLE = "in the middle of an epoch"


def main():
    folder = Path(sys.argv[1])
    args = scenarios.make_args(folder)
    assert args.world_size == 2, args.world_size
    result = {"world_size": args.world_size, **scale(folder), **masks(folder), **resumed(folder)}
    torch.save(result, folder / f"rank{args.process_index}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""Runs on each of two ranks, under torchrun: `torchrun --nproc_per_node 2 two_ranks.py TASK FOLDER`.

What the tests look at is written to `FOLDER/rank0.pt` and `FOLDER/rank1.pt`.
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


def killed(folder):
    """Trains until it is killed in the middle of an epoch."""
    scenarios.run_resumable(folder / "killed", MIDDLE, killed=True, world_size=2)


def resumed(folder):
    """Resumes what `killed` left, beside a run that was never interrupted, and a run that one rank began."""
    return {
        "resumed": scenarios.run_resumable(folder / "killed", MIDDLE, resume=True, world_size=2),
        "whole": scenarios.run_resumable(folder / "whole", MIDDLE, world_size=2),
        "one then two": scenarios.run_resumable(
            folder / "one", MIDDLE, resume=str(folder / "one" / "checkpoint-3"), world_size=2, **IN_ORDER
        ),
    }


MIDDLE = "in the middle of an epoch"
IN_ORDER = {"train_sampling_strategy": "sequential"}
TASKS = {"scale": scale, "masks": masks, "killed": killed, "resumed": resumed}


def main():
    folder = Path(sys.argv[2])
    args = scenarios.make_args(folder)
    assert args.world_size == 2, args.world_size
    result = {"world_size": args.world_size}
    for task in sys.argv[1].split(","):
        result |= TASKS[task](folder)
    torch.save(result, folder / f"rank{args.process_index}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

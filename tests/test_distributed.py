"""Two processes, on the CPU with gloo, give the same results as one."""

import subprocess
import sys
from pathlib import Path

import pytest
import scenarios
import torch
from safetensors.torch import load_file
from transformers.distributed import DistributedConfig

from hf_plm import count_labels

TESTS = Path(__file__).parent
MIDDLE = "in the middle of an epoch"


@pytest.fixture(scope="module")
def ranks(killed_runs):
    """The results of each of two ranks."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    worker = [str(TESTS / "two_ranks.py"), str(killed_runs)]
    process = subprocess.run([*launch, *worker], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    results = [torch.load(killed_runs / f"rank{rank}.pt") for rank in range(2)]
    assert [result["world_size"] for result in results] == [2, 2]
    return results


@pytest.mark.parametrize("name", scenarios.OBJECTIVES)
def test_accumulation_changes_neither_gradients_nor_losses(name, tmp_path):
    # 40 rows: the last update has two micro-batches instead of four, or eight rows instead of sixteen.
    whole = scenarios.run_scale(tmp_path, name, 16, 1)
    assert len(whole["losses"]) == 3
    assert whole["gradients"][0]["classifier.weight"].abs().max() > 1e-3
    scenarios.assert_same(scenarios.run_scale(tmp_path, name, 4, 4), whole)


@pytest.mark.parametrize("name", scenarios.OBJECTIVES)
@pytest.mark.parametrize("cut", ["2 x 8", "2 x 2 x 4"])
def test_two_ranks_give_the_results_of_one(name, cut, ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, name, 16, 1)
    for result in ranks:
        scenarios.assert_same(result[name, cut], whole)


def test_it_does_not_matter_whether_the_trainer_averages_over_devices(ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, "default", 16, 1)
    scenarios.assert_same(ranks[0]["not averaged"], whole)


def test_rows_repeated_to_even_out_the_ranks_count_once(ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, "default", 16, 1, rows=37)
    for result in ranks:
        scenarios.assert_same(result["uneven"], whole)


@pytest.mark.parametrize("cut", ["4 x 4", "2 x 2 x 4"])
def test_the_loss_of_the_documented_subclass_does_not_depend_on_how_the_batch_is_split(cut, ranks, tmp_path):
    def run(*size):
        trainer_class = scenarios.documented_trainer()
        return scenarios.run_scale(tmp_path, "default", *size, rows=37, trainer_class=trainer_class)

    whole = run(16, 1)
    plain = scenarios.run_scale(tmp_path, "default", 16, 1, rows=37)
    assert scenarios.largest_difference(whole["gradients"][0], plain["gradients"][0]) > 0.01
    assert whole["eval_loss"] == plain["eval_loss"]
    for result in [run(4, 4)] if cut == "4 x 4" else [result["own losses"] for result in ranks]:
        scenarios.assert_same(result, whole)


def test_the_train_loss_includes_all_ranks(ranks, tmp_path):
    """Two of the three steps are logged; the loss of the last is still on each rank, for its own rows."""
    whole = scenarios.run_scale(tmp_path, "default", 16, 1, logging_steps=2)
    assert len(whole["losses"]) == 1
    for result in ranks:
        for key in ("train_loss", "logged train_loss"):
            assert result["rarely logged"][key] == pytest.approx(whole["train_loss"], rel=1e-6)


STREAMS = ["one shard", "two shards", "of torch", "of torch, with a length", "split", "rows, split"]


@pytest.mark.parametrize("name", STREAMS)
def test_each_row_of_a_stream_counts_once(name, ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, "default", 16, 1, rows=37)
    for result in ranks:
        scenarios.assert_same(result["stream", name], whole)


def test_shards_that_each_rank_reads_count_once_if_they_end_together(ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, "paper", 16, 1, rows=37)
    for result in ranks:
        assert torch.equal(result["shards"]["histograms"], whole["histograms"])
        assert result["shards"]["eval_loss"] == pytest.approx(whole["eval_loss"], rel=1e-6)
        assert len(result["shards"]["losses"]) == 3
    assert whole["histograms"].sum() > 100


def test_a_stream_whose_rows_the_ranks_would_repeat_is_refused(ranks):
    for refused in (result["refused"] for result in ranks):
        assert [len(refused[name]) for name in ("one shard", "shards", "length")] == [3, 2, 3]
        for name in ("one shard", "length"):
            train, evaluate, predict = refused[name]
            assert train.startswith("train_dataset is a stream, and accelerator_config has dispatch_batches=False")
            assert "on 2 ranks the last batch would count rows twice" in train
            assert "leave dispatch_batches out of accelerator_config" in train
            assert evaluate.startswith("eval_dataset is a stream") and "evaluate a datasets.Dataset" in evaluate
            assert predict.startswith("the data set to predict is a stream")
        assert [each.split(" is a stream")[0] for each in refused["shards"]] == [
            "eval_dataset",
            "the data set to predict",
        ]


def test_shards_that_do_not_end_together_end_training(ranks):
    assert ranks[1]["refused"]["unequal"] is None
    message = ranks[0]["refused"]["unequal"]
    assert message.startswith(
        "train_dataset ended on rank 0 (0 batches in the last step) before it ended on the others"
    )
    assert "(1 on all 2 together)" in message and "leave dispatch_batches out" in message


def test_two_ranks_and_accumulation_compute_the_same_of_class_ids(ranks, tmp_path):
    whole = scenarios.run_scale(tmp_path, "default", 16, 1, rows=37, unknown=0)
    for result in ranks:
        scenarios.assert_same(result["class ids"], whole)


def test_masks_differ_by_rank_and_repeat_by_seed(ranks):
    masks = [result["masks"] for result in ranks]
    assert [len(drawn) for drawn in masks] == [8, 8]
    for drawn in masks:
        assert all(torch.equal(first, second) for first, second in zip(drawn[:4], drawn[4:], strict=True))
    everything_kept = [mask.all() for mask in masks[0]]
    assert not all(everything_kept)
    assert not any(torch.equal(one, other) for one, other in zip(*masks, strict=True))


@pytest.mark.parametrize("case", scenarios.CHECKPOINTS)
def test_two_killed_ranks_resume_to_the_last_bit(case, ranks):
    for result in ranks:
        scenarios.assert_identical(result["resumed", case], result["whole", case])
        assert result["whole", case]["history"].shape == (4, 5)
    assert torch.equal(ranks[0]["whole", case]["history"], ranks[1]["whole", case]["history"])


def test_a_run_resumed_on_a_different_number_of_ranks_has_the_right_totals(ranks, killed_runs, tmp_path):
    """Three steps on two ranks, then five on one, and the reverse: every row of the epoch is counted once."""
    checkpoint = scenarios.killed_folder(killed_runs, MIDDLE, 2) / "checkpoint-3"
    two_then_one = scenarios.run_resumable(tmp_path, MIDDLE, resume=str(checkpoint), max_steps=8)
    counts = count_labels(scenarios.make_rows(64))
    totals = torch.stack([counts.positives, counts.negatives])
    assert torch.equal(two_then_one["histograms"].sum(-1), totals)
    assert two_then_one["history"].shape == (2, 5)
    for result in ranks:
        assert torch.equal(result["one then two"]["histograms"].sum(-1), totals)
        assert result["one then two"]["history"].shape == (4, 5)


def test_one_rank_may_save_the_model_in_the_middle_of_an_epoch(ranks, killed_runs):
    """One rank saves without waiting for the other. A later save by all ranks is complete and resumes exactly."""
    for result in ranks:
        for name in ("saved by one", "resumed"):
            for key in ("history", "histograms"):
                assert torch.equal(result["saved"][name][key], result["saved"]["whole"][key]), (name, key)
        assert result["saved"]["whole"]["history"].shape == (3, 5)
    assert load_file(killed_runs / "saved by one" / "middle" / "model.safetensors")
    middle = load_file(killed_runs / "saved by one" / "middle" / "plm_state.safetensors")
    assert middle["histograms"].sum() == 2 * 4 * 5  # the batches of the first rank


def test_one_rank_or_both_may_save_the_state_in_the_middle_of_an_epoch(ranks):
    """Two batches, with 2 rows on one rank and 5 on the other, and 3 labels; no rank waits for the other."""
    first, second = (result["saved in the middle"] for result in ranks)
    assert (first["own"], second["own"]) == (12, 30)  # DDP has not broadcast them
    for seen in (first, second):
        assert "plm_state_rank1.safetensors is missing" in seen["refusal"]
        assert seen["loaded"]
        assert seen["summed"] == 42


@pytest.mark.skipif(not hasattr(DistributedConfig, "fsdp_plan"), reason="sharding plans begin with transformers 5.23")
def test_a_model_sharded_by_fsdp2_learns_the_same_as_with_ddp(ranks, killed_runs):
    for result in ranks:
        assert result["sharded"]["losses"] == pytest.approx(result["copied"]["losses"], rel=1e-6)
        assert len(result["sharded"]["losses"]) == 3
        assert result["sharded"]["eval_loss"] == pytest.approx(result["copied"]["eval_loss"], rel=1e-6)
        assert torch.equal(result["sharded"]["history"], result["copied"]["history"])
    weights, copied = (
        load_file(killed_runs / name / "checkpoint-3/model.safetensors") for name in ("sharded", "copied")
    )
    for name in copied:
        torch.testing.assert_close(weights[name], copied[name], rtol=1e-4, atol=1e-6)
    assert "a model that distributed_config shards cannot be resumed" in ranks[0]["refusal"]


def test_several_visible_devices_without_a_launcher_give_the_results_of_one(tmp_path, monkeypatch):
    """`Trainer` wraps the model in `nn.DataParallel`; on a CPU this passes the batch to its only module."""
    whole = scenarios.run_scale(tmp_path, "default", 16, 1)
    original = scenarios.make_args

    def two_devices(*args, **kwargs):
        made = original(*args, **kwargs)
        made._n_gpu = 2
        return made

    monkeypatch.setattr(scenarios, "make_args", two_devices)
    scenarios.assert_same(scenarios.run_scale(tmp_path, "default", 8, 1), whole)

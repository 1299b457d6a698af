"""Trains every case of `scenarios.CHECKPOINTS`, on one rank and on two, until it is killed: `python killed.py FOLDER`.

Each rank is its own process, forked after the imports, which take longer than the runs.
"""

import gc
import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import scenarios


def train(folder, case, world_size, rank, port):
    """Train one rank of a run; does not return."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in ranks.items()}, MASTER_ADDR="127.0.0.1")
    scenarios.run_resumable(
        scenarios.killed_folder(folder, case, world_size), case, killed=True, world_size=world_size
    )


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def main():
    gc.freeze()  # `Trainer` collects garbage when it starts to train
    fork = multiprocessing.get_context("fork")
    for world_size in (1, 2):
        for case in scenarios.CHECKPOINTS:
            port = free_port()
            arguments = [(Path(sys.argv[1]), case, world_size, rank, port) for rank in range(world_size)]
            processes = [fork.Process(target=train, args=each) for each in arguments]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            exit_codes = [process.exitcode for process in processes]
            assert exit_codes == [-signal.SIGKILL] * world_size, (case, exit_codes)


if __name__ == "__main__":
    main()

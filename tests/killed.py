"""Trains until it is killed: `python killed.py CASE FOLDER`."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import scenarios

if __name__ == "__main__":
    scenarios.run_resumable(sys.argv[2], sys.argv[1], killed=True)

"""Synthetic short texts with a few labels, most of them rare. Each label has its own word."""

import numpy as np
import torch
from torch import Tensor

POSITIVES = (697, 418, 251, 150, 90, 54, 32, 19, 12, 7)
"""The number of positives of each label in `NUM_ROWS` rows of training data."""

NUM_ROWS = 1200
NUM_TOKENS = 12
FIRST_TOKEN = 2
"""The first token of every text; BERT's classifier uses its output."""

NUM_FILLERS = 80
FIRST_FILLER = 20
"""Smaller token ids are special tokens (0 to 4) or words of labels (from 5 on)."""

VOCABULARY = FIRST_FILLER + NUM_FILLERS
SHOWN = 0.95
"""The share of the rows with a label whose text has the label's word."""


def make_keyword_texts(num_rows: int, seed: int) -> tuple[Tensor, list[list[int]]]:
    """Token ids, int64 `(num_rows, NUM_TOKENS)`, and the labels of each row.

    Each label has exactly its share of the rows, rounded; its rows are drawn independently of the other labels. A text
    has filler words. For each label of the row, one of them is replaced by the label's word, except in one case of 20.
    """
    generator = np.random.default_rng(seed)
    positive = np.zeros((num_rows, len(POSITIVES)), bool)
    for label, count in enumerate(POSITIVES):
        positive[generator.permutation(num_rows)[: round(count * num_rows / NUM_ROWS)], label] = True
    tokens = generator.integers(FIRST_FILLER, VOCABULARY, (num_rows, NUM_TOKENS))
    tokens[:, 0] = FIRST_TOKEN
    for row, labels in zip(tokens, positive, strict=True):
        places = 1 + generator.permutation(NUM_TOKENS - 1)
        for place, label in zip(places, np.flatnonzero(labels), strict=False):
            if generator.random() < SHOWN:
                row[place] = 5 + label
    return torch.from_numpy(tokens), [np.flatnonzero(labels).tolist() for labels in positive]

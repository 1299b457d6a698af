"""A made set of short texts with a few labels, most of them rare: each label has a word of its own."""

import numpy as np
import torch
from torch import Tensor

POSITIVES = (697, 418, 251, 150, 90, 54, 32, 19, 12, 7)
"""Of each label, among `NUM_ROWS` rows of training data."""

NUM_ROWS = 1200
NUM_TOKENS = 12
FIRST_TOKEN = 2
"""Of every text, of which a BERT takes its output."""

NUM_FILLERS = 80
FIRST_FILLER = 20
"""Tokens below it are special (0 to 4) or the labels' words (from 5 on)."""

VOCABULARY = FIRST_FILLER + NUM_FILLERS
SHOWN = 0.95
"""How often a label's word is in the text of a row that has the label."""


def make_keyword_texts(num_rows: int, seed: int) -> tuple[Tensor, list[list[int]]]:
    """Token ids, int64 `(num_rows, NUM_TOKENS)`, and the labels of each row.

    Each label has exactly its share of the rows, rounded; which rows, is drawn for each label on its own. A text is
    filler words, of which one per label of the row is replaced by the label's word, but for one in twenty.
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

"""Iterative stratification: spreads rows over parts so that each part has its share of every label.

The labels are sparse, so memory and time grow with the number of positives, not with rows times labels.
"""

import heapq

import numpy as np
from scipy.sparse import csr_array

SPREAD_PASSES = 10
"""The number of passes over labels that are missing in a part; more passes would rarely move a row."""


def stratify(positives: csr_array, sizes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spread rows over parts, by iterative stratification.

    The label with the fewest rows left is always next. Each of its rows goes to a part that lacks the label, or else
    to the part that still needs the most of it. Rows without labels fill up the parts. Then single rows are moved,
    first to parts that lack a label, then to reach the sizes.

    Source: Sechidis et al., "On the Stratification of Multi-Label Data", ECML PKDD 2011. The preference for parts that
    lack a label, and the moves, are additions.

    Args:
        positives (bool, `(rows, num_labels)`): True where a label is positive.
        sizes (int64, `(parts,)`): the number of rows that each part should have; their sum is the number of rows.
        seed: the seed for the order of the rows, and for ties.

    Returns:
        the part of each row, int64 `(rows,)`; and the labels that are in fewer parts than possible, int64. A label can
        be in every part, or in as many as it has positives. A part has a different size than requested if no row can
        be moved without the loss of a label.
    """
    generator = np.random.default_rng(seed)
    parts = _Parts(positives, sizes)
    _assign(parts, generator)
    _spread(parts, generator)
    _resize(parts)
    return parts.part_of, parts.missing()


class _Parts:
    """The part of each row, and the labels and rows of each part.

    Attributes:
        part_of (int64, `(rows,)`): the part of each row; -1 if it has none yet.
        counts (int64, `(num_labels, parts)`): how often each label is positive in each part.
        num_rows (int64, `(parts,)`): the number of rows in each part.
        totals (int64, `(num_labels,)`): how often each label is positive in all rows.
    """

    def __init__(self, positives: csr_array, sizes: np.ndarray):
        self.by_row, self.by_label, self.sizes = positives, positives.tocsc(), sizes
        self.part_of = np.full(positives.shape[0], -1)
        self.totals = np.diff(self.by_label.indptr).astype(np.int64)
        self.counts = np.zeros((len(self.totals), len(sizes)), np.int64)
        self.num_rows = np.zeros(len(sizes), np.int64)

    def rows_of(self, label: int) -> np.ndarray:
        """The rows in which a label is positive."""
        rows: np.ndarray = self.by_label.indices[self.by_label.indptr[label] : self.by_label.indptr[label + 1]]
        return rows

    def labels_of_row(self, row: int) -> np.ndarray:
        """The labels of one row."""
        labels: np.ndarray = self.by_row.indices[self.by_row.indptr[row] : self.by_row.indptr[row + 1]]
        return labels

    def labels_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The labels of several rows in one array, and for each label the index of its row in `rows`."""
        theirs = self.by_row[rows]
        return theirs.indices, np.repeat(np.arange(len(rows)), np.diff(theirs.indptr))

    def put(self, rows: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Put rows without a part into parts. Returns their labels, each once."""
        labels, owners = self.labels_of(rows)
        np.add.at(self.counts, (labels, parts[owners]), 1)
        self.num_rows += np.bincount(parts, minlength=len(self.sizes))
        self.part_of[rows] = parts
        return np.unique(labels)

    def move(self, row: int, target: int) -> None:
        """Move a row from its part to another part."""
        source = self.part_of[row]
        labels = self.labels_of_row(row)
        self.counts[labels, source] -= 1
        self.counts[labels, target] += 1
        self.num_rows[source] -= 1
        self.num_rows[target] += 1
        self.part_of[row] = target

    def missing(self) -> np.ndarray:
        """The labels that are in fewer parts than possible."""
        return np.flatnonzero((self.counts > 0).sum(1) < np.minimum(self.totals, len(self.sizes)))


def _assign(parts: _Parts, generator: np.random.Generator) -> None:
    """Put each row into a part, first the rows of the label with the fewest rows left."""
    queue: list[tuple[int, int]] = []  # (rows left, label), with all labels that have at most `limit` rows left
    left, limit = parts.totals.copy(), 0
    while left.any():
        if not queue:
            limit = 2 * left[left > 0].min()
            queue = _entries(left, np.flatnonzero(left <= limit))
            heapq.heapify(queue)
        expected, label = heapq.heappop(queue)
        if expected != left[label]:  # a later entry has the right number
            continue
        rows = parts.rows_of(label)
        rows = generator.permutation(rows[parts.part_of[rows] < 0])
        wanted = parts.totals[label] * parts.sizes - len(parts.part_of) * parts.counts[label]
        dealt = _deal(len(rows), parts.counts[label] == 0, wanted, len(parts.part_of), parts, generator)
        touched = parts.put(rows, dealt)
        left[touched] = parts.totals[touched] - parts.counts[touched].sum(1)
        for entry in _entries(left, touched[left[touched] <= limit]):
            heapq.heappush(queue, entry)
    rows = generator.permutation(np.flatnonzero(parts.part_of < 0))
    no_label = np.zeros(len(parts.sizes), np.int64)
    parts.put(rows, _deal(len(rows), no_label == 1, no_label, 0, parts, generator))


def _entries(left: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the number of rows left and the label, for those of `labels` that have rows left."""
    labels = labels[left[labels] > 0]
    return list(zip(left[labels].tolist(), labels.tolist(), strict=True))


def _deal(
    num_rows: int, lacks: np.ndarray, wanted: np.ndarray, step: int, parts: _Parts, generator: np.random.Generator
) -> np.ndarray:
    """The part for each of several rows, in order, int64 `(num_rows,)`.

    Args:
        lacks (bool, `(parts,)`): the parts that come first, each until it gets a row.
        wanted (int64, `(parts,)`): how much each part needs a row. If several need it equally, the part furthest
            below its size comes first.
        step: the amount by which a row lowers the need.
    """
    ties = generator.permutation(len(wanted)).tolist()
    short = parts.num_rows - parts.sizes
    queue = list(zip((~lacks).tolist(), (-wanted).tolist(), short.tolist(), ties, range(len(ties)), strict=True))
    heapq.heapify(queue)
    dealt = np.empty(num_rows, np.int64)
    for index in range(num_rows):
        _, want, size, tie, part = queue[0]
        dealt[index] = part
        heapq.heapreplace(queue, (True, want + step, size + 1, tie, part))
    return dealt


def _spread(parts: _Parts, generator: np.random.Generator) -> None:
    """Move rows to parts that lack one of their labels, if the move removes no more labels than it adds."""
    for _ in range(SPREAD_PASSES):
        for label in parts.missing():
            rows = parts.rows_of(label)
            rows = generator.permutation(rows[parts.counts[label, parts.part_of[rows]] > 1])
            lacking = np.flatnonzero(parts.counts[label] == 0)
            if not len(rows) or not len(lacking):  # a row that was moved for a different label also has this one
                continue
            target = generator.choice(lacking)
            labels, owners = parts.labels_of(rows)
            won = parts.counts[labels, target] == 0
            lost = parts.counts[labels, parts.part_of[rows[owners]]] == 1
            gain = np.bincount(owners, won.astype(np.int64) - lost)
            if gain.max() >= 0:
                parts.move(rows[gain.argmax()], int(target))


def _resize(parts: _Parts) -> None:
    """Move rows out of parts that are too large, first those that bring the labels closest to their shares."""
    shares = parts.sizes / len(parts.part_of)
    for source in range(len(parts.sizes)):
        while parts.num_rows[source] > parts.sizes[source]:
            too_many = parts.num_rows - parts.sizes
            target = int(too_many.argmin())
            rows = np.flatnonzero(parts.part_of == source)
            rows = rows[
                ~(parts.by_row[rows] @ (parts.counts[:, source] == 1))
            ]  # moving other rows would remove a label
            if not len(rows):
                break
            excess = parts.counts / np.maximum(parts.totals, 1)[:, None] - shares
            gain = parts.by_row[rows] @ (excess[:, source] - excess[:, target])
            batch = 1 + min(too_many[source], -too_many[target]) // 10  # gains change with each moved row
            for row in rows[np.argsort(-gain, kind="stable")[:batch]]:
                if (parts.counts[parts.labels_of_row(row), source] > 1).all():
                    parts.move(row, target)

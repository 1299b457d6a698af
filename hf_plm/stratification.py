"""Iterative stratification: rows are spread over parts so that each part has its share of every label.

Rows and labels are sparse: memory and time grow with the number of positives, not with rows times labels.
"""

import heapq

import numpy as np
from scipy.sparse import csr_array

SPREAD_PASSES = 10
"""How often labels that some part lacks are gone through; the last passes seldom find a row to move."""


def stratify(positives: csr_array, sizes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spread rows over parts, by iterative stratification.

    The label with the fewest rows left is next. Each of its rows goes to the part that lacks the label, else to the
    part that still wants the most of it. Rows without labels fill up the parts. Then single rows are moved, for labels
    that some part lacks, and for the sizes.

    Source: Sechidis et al., "On the Stratification of Multi-Label Data", ECML PKDD 2011. Rows that go to a part
    because it lacks the label, and the moves, are an addition.

    Args:
        positives (bool, `(rows, num_labels)`): True where a label is positive.
        sizes (int64, `(parts,)`): how many rows each part should have; together as many as there are.
        seed: of the order of the rows, and of ties.

    Returns:
        the part of each row, int64 `(rows,)`; and the labels that are in fewer parts than they could be, int64. A
        label could be in every part, or in as many as it has positives. Parts have other sizes than asked for where
        no row can be moved without a loss of labels.
    """
    generator = np.random.default_rng(seed)
    parts = _Parts(positives, sizes)
    _assign(parts, generator)
    _spread(parts, generator)
    _resize(parts)
    return parts.part_of, parts.missing()


class _Parts:
    """Which part each row is in, and what each part has.

    Attributes:
        part_of (int64, `(rows,)`): the part of each row, -1 for none yet.
        counts (int64, `(num_labels, parts)`): how often each label is positive in each part.
        num_rows (int64, `(parts,)`): how many rows each part has.
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
        """The labels of rows, one after another; and for each the index in `rows` of the row that it belongs to."""
        theirs = self.by_row[rows]
        return theirs.indices, np.repeat(np.arange(len(rows)), np.diff(theirs.indptr))

    def put(self, rows: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Put rows that are in no part into parts. Returns their labels, each once."""
        labels, owners = self.labels_of(rows)
        np.add.at(self.counts, (labels, parts[owners]), 1)
        self.num_rows += np.bincount(parts, minlength=len(self.sizes))
        self.part_of[rows] = parts
        return np.unique(labels)

    def move(self, row: int, target: int) -> None:
        """Move a row from its part to another."""
        source = self.part_of[row]
        labels = self.labels_of_row(row)
        self.counts[labels, source] -= 1
        self.counts[labels, target] += 1
        self.num_rows[source] -= 1
        self.num_rows[target] += 1
        self.part_of[row] = target

    def missing(self) -> np.ndarray:
        """The labels that are in fewer parts than they could be."""
        return np.flatnonzero((self.counts > 0).sum(1) < np.minimum(self.totals, len(self.sizes)))


def _assign(parts: _Parts, generator: np.random.Generator) -> None:
    """Put each row into a part, the rows of the label with the fewest rows left first."""
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
    """How many rows each of some labels has left, and the label; without those that have none left."""
    labels = labels[left[labels] > 0]
    return list(zip(left[labels].tolist(), labels.tolist(), strict=True))


def _deal(
    num_rows: int, lacks: np.ndarray, wanted: np.ndarray, step: int, parts: _Parts, generator: np.random.Generator
) -> np.ndarray:
    """The parts that rows go to, one after another, int64 `(num_rows,)`.

    Args:
        lacks (bool, `(parts,)`): the parts that come first, each until it has a row.
        wanted (int64, `(parts,)`): how much each part wants a row. Among equals, the one that is furthest from its
            size comes first.
        step: by how much a row lowers that.
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
    """Move rows to parts that lack one of their labels, while no more labels are lost than won."""
    for _ in range(SPREAD_PASSES):
        for label in parts.missing():
            rows = parts.rows_of(label)
            rows = generator.permutation(rows[parts.counts[label, parts.part_of[rows]] > 1])
            lacking = np.flatnonzero(parts.counts[label] == 0)
            if not len(rows) or not len(lacking):  # a row that was moved for another label brought it along
                continue
            target = generator.choice(lacking)
            labels, owners = parts.labels_of(rows)
            won = parts.counts[labels, target] == 0
            lost = parts.counts[labels, parts.part_of[rows[owners]]] == 1
            gain = np.bincount(owners, won.astype(np.int64) - lost)
            if gain.max() >= 0:
                parts.move(rows[gain.argmax()], int(target))


def _resize(parts: _Parts) -> None:
    """Move rows from parts that are too large, those first that bring the labels nearest to their shares."""
    shares = parts.sizes / len(parts.part_of)
    for source in range(len(parts.sizes)):
        while parts.num_rows[source] > parts.sizes[source]:
            too_many = parts.num_rows - parts.sizes
            target = int(too_many.argmin())
            rows = np.flatnonzero(parts.part_of == source)
            rows = rows[~(parts.by_row[rows] @ (parts.counts[:, source] == 1))]  # others would take a label away
            if not len(rows):
                break
            excess = parts.counts / np.maximum(parts.totals, 1)[:, None] - shares
            gain = parts.by_row[rows] @ (excess[:, source] - excess[:, target])
            batch = 1 + min(too_many[source], -too_many[target]) // 10  # the gains change with every row that moves
            for row in rows[np.argsort(-gain, kind="stable")[:batch]]:
                if (parts.counts[parts.labels_of_row(row), source] > 1).all():
                    parts.move(row, target)

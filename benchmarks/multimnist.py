"""MultiMNIST, as in the first experiment of the PLM paper: several digits on one canvas, some of them rare."""

import numpy as np


def make_multi_digit(
    images: np.ndarray,
    classes: np.ndarray,
    num_rows: int,
    imbalance_factor: float,
    seed: int,
    canvas: int = 48,
    max_digits: int = 4,
) -> tuple[np.ndarray, list[list[int]]]:
    """Pictures of 1 to `max_digits` objects of different classes at random places, and the classes that they show.

    Args:
        images (uint8, `(count, height, width)`): one bright object on black each, from any single-label data set.
        classes (int, `(count,)`): their classes, from 0.
        num_rows: how many pictures to make.
        imbalance_factor: class 0 is about this many times as frequent as the last class; the frequencies between them
            fall exponentially. 1 for equal frequencies.
        seed: of all random choices.
        canvas: height and width of the pictures, in pixels.
        max_digits: the largest number of objects in a picture; they may overlap.

    Returns:
        the pictures (uint8, `(num_rows, canvas, canvas)`), and for each a sorted list of its classes.
    """
    generator = np.random.default_rng(seed)
    num_classes = int(classes.max()) + 1
    frequencies = imbalance_factor ** (-np.arange(num_classes) / (num_classes - 1))
    members = [np.flatnonzero(classes == label) for label in range(num_classes)]
    pictures = np.zeros((num_rows, canvas, canvas), np.uint8)
    labels = []
    height, width = images.shape[1:]
    for picture in pictures:
        count = generator.integers(1, max_digits + 1)
        shown = generator.choice(num_classes, count, replace=False, p=frequencies / frequencies.sum())
        for label in shown:
            image = images[generator.choice(members[label])]
            top, left = generator.integers(canvas - height + 1), generator.integers(canvas - width + 1)
            place = picture[top : top + height, left : left + width]
            np.maximum(place, image, out=place)
        labels.append(sorted(shown.tolist()))
    return pictures, labels

"""A slow reference for the tensor functions: every equation in plain Python, one label at a time."""

import math

from hf_plm.rules import DRIFT_BOUND, PSEUDO_COUNT


def is_known(label):
    return not math.isnan(label) and label != -100


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def label_ratio(positives, negatives):
    return [p / n if p > 0 and n > 0 else 1.0 for p, n in zip(positives, negatives, strict=True)]


def initial_ideal_ratio(positives, negatives, start, temper, max_shift):
    ratio = label_ratio(positives, negatives)
    valid = [p > 0 and n > 0 for p, n in zip(positives, negatives, strict=True)]
    mean = sum(r for r, v in zip(ratio, valid, strict=True) if v) / max(sum(valid), 1)
    ideal = []
    for r, v in zip(ratio, valid, strict=True):
        value = {"tempered": r**temper, "mean": mean, "dataset": r}.get(start, start) if v else r
        ideal.append(min(max(value, r / max_shift), r * max_shift))
    return ideal


def keep_probabilities(ratio, ideal_ratio):
    pairs = list(zip(ratio, ideal_ratio, strict=True))
    return [min(1, i / r) for r, i in pairs], [min(1, r / i) for r, i in pairs]


def log_odds_shift(positives, negatives, ideal_ratio):
    """log(I / R) of each label that has both positives and negatives."""
    triples = zip(positives, negatives, ideal_ratio, strict=True)
    return [math.log(i / (p / n)) if p > 0 and n > 0 else 0.0 for p, n, i in triples]


def scramble(value):
    """The hash lowbias32, on a signed number of 32 bits."""
    value %= 2**32
    value = (value ^ (value >> 16)) * 0x7FEB352D % 2**32
    value = (value ^ (value >> 15)) * 0x846CA68B % 2**32
    value ^= value >> 16
    return value - 2**32 if value >= 2**31 else value


def masked_loss(logits, labels, mask):
    """BCE over the kept entries, divided by the number of known ones."""
    total, known = 0.0, 0
    for row_logits, row_labels, row_mask in zip(logits, labels, mask, strict=True):
        for logit, label, kept in zip(row_logits, row_labels, row_mask, strict=True):
            if is_known(label):
                known += 1
                p = sigmoid(logit)
                if kept:
                    total += -math.log(p) if label == 1 else -math.log(1 - p)
    return total / known


def focal(logit, label, gamma):
    p = sigmoid(logit)
    p_t = p if label == 1 else 1 - p
    return -((1 - p_t) ** gamma) * math.log(p_t)


def asymmetric(logit, label, gamma_negative, gamma_positive, margin):
    p = sigmoid(logit)
    if label == 1:
        return -((1 - p) ** gamma_positive) * math.log(p)
    p_m = max(p - margin, 0)
    return -(p_m**gamma_negative) * math.log(1 - p_m)


def bce(logit, label):
    return math.log1p(math.exp(-logit)) if label == 1 else math.log1p(math.exp(logit))


def weighted_bce(row, labels, positives, negatives, max_weight):
    ratio = label_ratio(positives, negatives)
    weights = [min(1 / r, max_weight) if label == 1 else 1 for r, label in zip(ratio, labels, strict=True)]
    return [w * bce(z, y) for w, z, y in zip(weights, row, labels, strict=True)]


def class_balanced(row, labels, positives, negatives, beta):
    effective = [(1 - beta**n) / (1 - beta) if n > 0 else None for n in positives]
    mean = sum(1 / e for e in effective if e) / sum(1 for e in effective if e)
    weights = [1 / e / mean if e else 1 for e in effective]
    return [w * bce(z, y) for w, z, y in zip(weights, row, labels, strict=True)]


def distribution_balanced(row, labels, positives, negatives, alpha, beta, mu, negative_scale, kappa):
    rarity = [1 / max(n, 1) for n in positives]
    instance = sum(rarity[c] for c, label in enumerate(labels) if label == 1)
    losses = []
    for c, (z, y) in enumerate(zip(row, labels, strict=True)):
        weight = alpha + (sigmoid(beta * (rarity[c] / instance - mu)) if instance else 1)
        has_both = positives[c] > 0 and negatives[c] > 0
        p = positives[c] / (positives[c] + negatives[c]) if has_both else 0.5
        z = z - kappa * math.log(1 / p - 1)
        tolerant = math.log1p(math.exp(negative_scale * z)) / negative_scale
        losses.append(weight * (math.log1p(math.exp(-z)) if y == 1 else tolerant))
    return losses


def logit_adjusted(row, labels, positives, negatives, tau):
    ratio = label_ratio(positives, negatives)
    return [bce(z + tau * math.log(r), y) for z, r, y in zip(row, ratio, labels, strict=True)]


def probability_histograms(logits, labels, num_bins):
    num_labels = len(logits[0])
    histograms = [[[0] * num_bins for _ in range(num_labels)] for _ in range(2)]
    for row_logits, row_labels in zip(logits, labels, strict=True):
        for c in range(num_labels):
            if is_known(row_labels[c]) and math.isfinite(row_logits[c]):
                bin_index = min(int(sigmoid(row_logits[c]) * num_bins), num_bins - 1)
                histograms[0 if row_labels[c] == 1 else 1][c][bin_index] += 1
    return histograms


def divergence(counts, true_bin, eps=1e-7):
    """KL(predicted || truth) of one class; the truth is 1 in `true_bin` and eps in the other bins."""
    total = sum(counts)
    if total == 0:
        return 0.0
    result = 0.0
    for index, count in enumerate(counts):
        if count:
            q = count / total
            result += q * math.log(q / (1.0 if index == true_bin else eps))
    return result


def zscore(values, valid):
    """Over the valid classes, population standard deviation; 0 for all if there is no spread."""
    taking_part = [v for v, ok in zip(values, valid, strict=True) if ok]
    if not taking_part:
        return [0.0] * len(values)
    mean = sum(taking_part) / len(taking_part)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in taking_part) / len(taking_part))
    if deviation <= 1e-6 * max(abs(v) for v in taking_part):
        return [0.0] * len(values)
    return [(v - mean) / deviation if ok else 0.0 for v, ok in zip(values, valid, strict=True)]


def has_ratio(positives, negatives):
    return [p > 0 and n > 0 for p, n in zip(positives, negatives, strict=True)]


def class_weights(positives, negatives, keep_positive, keep_negative, exponent):
    """(kept labels / labels) ** -exponent of each class."""
    weights = []
    for p, n, keep_p, keep_n in zip(positives, negatives, keep_positive, keep_negative, strict=True):
        share = (p * keep_p + n * keep_n) / (p + n) if p + n else 1.0
        weights.append(share**-exponent)
    return weights


def balanced_ratio(ratio):
    return [((1 + r) ** 2 / (4 * r)) ** 0.25 for r in ratio]


def assumed_ratio(ratio, ideal_ratio, prior):
    return {"ideal": ideal_ratio, "balanced": balanced_ratio(ratio), "data": ratio}[prior]


def weighted_loss(logits, labels, kept, positive_weights, negative_weights, offset):
    """BCE of the logits plus the offset over the kept entries, weighted, divided by the number of known ones."""
    total, known = 0.0, 0
    for row_logits, row_labels, row_kept in zip(logits, labels, kept, strict=True):
        for c, (logit, label) in enumerate(zip(row_logits, row_labels, strict=True)):
            if is_known(label):
                known += 1
                if row_kept[c]:
                    weight = positive_weights[c] if label == 1 else negative_weights[c]
                    total += weight * bce(logit + offset[c], label)
    return total / known


def separation(positives, negatives):
    """`2 AUC - 1` of two histograms, pair by pair; at least 0."""
    higher = sum(p * n for i, p in enumerate(positives) for j, n in enumerate(negatives) if i > j)
    lower = sum(p * n for i, p in enumerate(positives) for j, n in enumerate(negatives) if i < j)
    return max(0.0, (higher - lower) / (sum(positives) * sum(negatives)))


def update_ideal_ratio(ideal_ratio, initial, ratio, valid, histograms, rule, change_rate, max_shift, num_updates):
    num_bins = len(histograms[0][0])
    num_labels = len(ratio)
    valid = [valid[c] and sum(histograms[0][c]) > 0 and sum(histograms[1][c]) > 0 for c in range(num_labels)]
    z_pos = zscore([divergence(histograms[0][c], num_bins - 1) for c in range(num_labels)], valid)
    z_neg = zscore([divergence(histograms[1][c], 0) for c in range(num_labels)], valid)
    updated = []
    for c in range(num_labels):
        if not valid[c] or rule == "fixed":
            updated.append(ideal_ratio[c])
            continue
        if rule == "kl":
            value = ideal_ratio[c] * math.exp(change_rate * (z_pos[c] - z_neg[c]))
        else:
            predicted = sum(histograms[0][c][num_bins // 2 :]) + sum(histograms[1][c][num_bins // 2 :])
            rate = change_rate / math.sqrt(num_updates + 1) * separation(*(half[c] for half in histograms))
            value = ideal_ratio[c] * ((sum(histograms[0][c]) + PSEUDO_COUNT) / (predicted + PSEUDO_COUNT)) ** rate
            value = min(max(value, initial[c] / DRIFT_BOUND), initial[c] * DRIFT_BOUND)
        updated.append(min(max(value, ratio[c] / max_shift), ratio[c] * max_shift))
    return updated


def update_estimated(
    ideal_ratio, positives, negatives, histograms, start, rule, change_rate, num_updates, temper, max_shift=100
):
    """Counts and ideal ratios after an update, if the counts start at 0 and are estimated from the rows seen."""
    before = initial_ideal_ratio(positives, negatives, start, temper, max_shift)
    seen_positives = [sum(histograms[0][c]) for c in range(len(positives))]
    seen_negatives = [sum(histograms[1][c]) for c in range(len(positives))]
    new_positives = [count + seen for count, seen in zip(positives, seen_positives, strict=True)]
    new_negatives = [count + seen for count, seen in zip(negatives, seen_negatives, strict=True)]
    after = initial_ideal_ratio(new_positives, new_negatives, start, temper, max_shift)
    ratio = label_ratio(new_positives, new_negatives)
    moved = []
    for c in range(len(positives)):
        value = ideal_ratio[c] * after[c] / before[c]
        moved.append(min(max(value, ratio[c] / max_shift), ratio[c] * max_shift))
    valid = has_ratio(positives, negatives)  # a class without a ratio does not adapt yet
    adapted = update_ideal_ratio(moved, after, ratio, valid, histograms, rule, change_rate, max_shift, num_updates)
    return new_positives, new_negatives, adapted

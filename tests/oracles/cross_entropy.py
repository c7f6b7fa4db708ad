"""MMSegmentation's cross-entropy, softmax and binary, in float64 numpy, independent of the package."""

import numpy as np


def cross_entropy(logits, label, *, use_sigmoid=False, class_weight=None, ignore_index=255):
    """Loss of each pixel (B, H, W), and its gradient with respect to that pixel's logits (B, C, H, W).

    With ``use_sigmoid`` summed over the classes, and ``class_weight`` is the factor of each class's positive term.
    """
    logits, label = np.asarray(logits, dtype=np.float64), np.asarray(label)
    num_classes = logits.shape[1]
    classes = np.arange(num_classes) if num_classes > 1 else np.array([1])
    one_hot = (label[:, None] == classes.reshape(-1, 1, 1)).astype(np.float64)
    factor = np.ones(num_classes) if class_weight is None else np.asarray(class_weight, dtype=np.float64)
    factor = factor.reshape(-1, 1, 1)
    if use_sigmoid:
        positive, negative = np.logaddexp(0, -logits), np.logaddexp(0, logits)
        sigmoid = np.exp(-positive)
        loss = factor * one_hot * positive + (1 - one_hot) * negative
        gradient = (1 - one_hot) * sigmoid - factor * one_hot * np.exp(-negative)
    else:
        shifted = logits - logits.max(1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        weight = (factor * one_hot).sum(1, keepdims=True)
        loss = -factor * one_hot * log_probability
        gradient = weight * (np.exp(log_probability) - one_hot)
    counted = label != ignore_index
    return loss.sum(1) * counted, gradient * counted[:, None]

"""Algorithms 1 and 2 of GraDNet (Jia et al. 2022) as loops over windows and elements, independent of the package.

Names are the paper's: P the map, P_m its windows, K x C their size (here 3 x 3), l the step, lambda_ the threshold.
"""

import numpy as np

K = C = 3
l = 1  # noqa: E741


def algorithm_1(P_m, has_edge):
    """Second-order differences of a window; a loop's end is exclusive, so that no index leaves the window."""
    g_m = np.zeros_like(P_m)
    if has_edge:
        for k in range(K - 1):
            for c in range(C - 1):
                g_m[k, c] = P_m[k + 1, c] + P_m[k, c + 1] - 2 * P_m[k, c]
    return g_m


def algorithm_2(g_m, g_next):
    """Half of what two consecutive windows agree on."""
    r_m = np.zeros_like(g_m)
    for k in range(l, K):
        for c in range(l, C):
            if g_m[k, c] == g_next[k - l, c - l]:
                r_m[k, c] = g_m[k, c] / 2
    return r_m


def gradient_features(P, lambda_, edge_side='above'):
    """r of one channel (H, W), in the channel's dtype, and how many windows gave each pixel a value other than 0."""
    height, width = P.shape
    r, writers = np.zeros_like(P), np.zeros(P.shape, dtype=int)

    def g(row, column):
        P_m = P[row : row + K, column : column + C]
        delta = max(P_m.flat) - min(P_m.flat)
        return algorithm_1(P_m, delta >= lambda_ if edge_side == 'above' else delta < lambda_)

    for row in range(0, height - K - l + 1, l):
        for column in range(0, width - C - l + 1, l):
            r_m = algorithm_2(g(row, column), g(row + l, column + l))
            r[row : row + K, column : column + C] += r_m
            writers[row : row + K, column : column + C] += r_m != 0
    return r, writers

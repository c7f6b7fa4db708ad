"""The boundary measures as plain loops over pixels and classes, independent of the package."""


def pixels(label_map):
    return [(y, x) for y in range(len(label_map)) for x in range(len(label_map[0]))]


def window(label_map, y, x, radius):
    """Labels in the square window, None where it leaves the image."""
    height, width = len(label_map), len(label_map[0])
    return [
        label_map[v][u] if 0 <= v < height and 0 <= u < width else None
        for v in range(y - radius, y + radius + 1)
        for u in range(x - radius, x + radius + 1)
    ]


def boundary_iou(pred, label, num_classes, d, void):
    """Per class [both bands, the prediction's, the label's], and the label's bands as if void were a class."""

    def in_band(label_map, y, x, class_index):
        """In the class's mask and not in the mask's erosion, background being all outside the image."""
        return label_map[y][x] == class_index and any(each != class_index for each in window(label_map, y, x, d))

    counts = [[0] * num_classes for _ in range(3)]
    all_bands = 0
    for y, x in pixels(label):
        all_bands += label[y][x] != void and in_band(label, y, x, label[y][x])
        if void in window(label, y, x, d):
            continue
        for class_index in range(num_classes):
            of_pred, of_label = (in_band(each, y, x, class_index) for each in (pred, label))
            for row, counted in zip(counts, (of_pred and of_label, of_pred, of_label), strict=True):
                row[class_index] += counted
    return counts, all_bands


def trimap(pred, label, num_classes, width, void):
    """Per class [right, predicted, labeled] among the pixels near a change of the label that are not void."""
    counts = [[0] * num_classes for _ in range(3)]
    for y, x in pixels(label):
        change = any(each not in (None, label[y][x]) for each in window(label, y, x, width))
        if label[y][x] != void and change:
            counts[0][label[y][x]] += pred[y][x] == label[y][x]
            counts[1][pred[y][x]] += 1
            counts[2][label[y][x]] += 1
    return counts


def fscore(pred, label, num_classes, tolerance, void):
    """Per class [matched, all] boundary pixels of the prediction, then of the label, and the label's with void's."""

    def neighbors(y, x):
        return [(v, u) for v, u in ((y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)) if (v, u) in everywhere]

    def boundary(label_map, class_index):
        return [
            (y, x)
            for y, x in known
            if label_map[y][x] == class_index
            and any(label_map[v][u] != class_index and (v, u) in known for v, u in neighbors(y, x))
        ]

    def near(pixel, others):
        return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= tolerance**2 for y, x in others)

    everywhere = set(pixels(label))
    voids = {(y, x) for y, x in everywhere if label[y][x] == void}
    known = everywhere - voids
    counts = [[0] * num_classes for _ in range(4)]
    for class_index in range(num_classes):
        edges = [boundary(each, class_index) for each in (pred, label)]
        for place, (edge, other) in enumerate((edges, edges[::-1])):
            counted = [pixel for pixel in edge if not near(pixel, voids)]
            counts[2 * place][class_index] = sum(near(pixel, other) for pixel in counted)
            counts[2 * place + 1][class_index] = len(counted)
    all_edges = sum(any(label[v][u] != label[y][x] for v, u in neighbors(y, x)) for y, x in known)
    return counts, all_edges

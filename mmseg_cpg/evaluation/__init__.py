"""Import from ``boundary``, which needs numpy and OpenCV only, or from ``metrics``, which needs MMSegmentation."""

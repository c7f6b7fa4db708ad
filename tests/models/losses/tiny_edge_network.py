import tempfile
from functools import cache
from pathlib import Path

import torch

from mmseg_cpg.models.edge_network import EdgeNetwork, save_edge_network

FOLDER = tempfile.TemporaryDirectory()  # gone when the tests end


@cache
def tiny_edge_network(num_classes):
    """The path of an untrained edge network with random weights."""
    path = Path(FOLDER.name, f'{num_classes}.pth')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EdgeNetwork(num_classes, channels=(7, 6))
        network.init_weights()
        save_edge_network(network, path)
    return str(path)

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmseg_cpg import EdgeNetwork
from mmseg_cpg.models.edge_network import load_edge_layers, save_edge_network
from mmseg_cpg.ops.semantic_edges import balanced_bce, one_hot_map, semantic_edges
from mmseg_cpg.ops.semeda import edge_features
from tests.inputs import blobs

NUM_CLASSES = 3
PREPROCESSOR = dict(type='SegDataPreProcessor', size=(24, 24))


@pytest.fixture
def network():
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    config = dict(num_classes=NUM_CLASSES, channels=(8, 8), data_preprocessor=PREPROCESSOR)
    network = MODELS.build(dict(type='mmseg_cpg.EdgeNetwork', **config))
    network.init_weights()
    return network


def batch(shape=(2, 24, 20), seed=0):
    label = blobs(shape, NUM_CLASSES, void=0.01, seed=seed)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in label]
    for sample in samples:
        sample.set_metainfo(dict(img_shape=shape[1:]))
    return dict(inputs=[torch.zeros(3, *shape[1:], dtype=torch.uint8)] * len(samples), data_samples=samples)


def test_loss_is_that_of_the_padded_labels(network):
    data = network.data_preprocessor(batch(), True)
    label = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    assert label.shape == (2, 24, 24)
    assert (label[:, :, 20:] == 255).all()
    void = label == 255
    logits = network(one_hot_map(label.masked_fill(void, 0), void, NUM_CLASSES))
    assert logits.shape == (2, NUM_CLASSES, 24, 24)
    expected = balanced_bce(logits, *semantic_edges(label, NUM_CLASSES))
    assert torch.equal(network(**data, mode='loss')['loss_edge'], expected)


def test_learns_to_find_edges(network):
    optimizer = OptimWrapper(torch.optim.Adam(network.parameters(), lr=0.02))
    for seed in range(60):
        network.train_step(batch(seed=seed), optimizer)
    (sample,) = network.val_step(batch((1, 24, 20), seed=99))
    edges, counted = semantic_edges(sample.gt_sem_seg.data, NUM_CLASSES)
    percent = sample.pred_edge.data
    assert percent.dtype == torch.uint8
    assert percent.max() < 100
    found = (percent >= 50) & counted
    assert (found & edges[0]).sum() > 0.9 * edges.sum()
    assert (found & edges[0]).sum() > 0.6 * found.sum()


def test_features_are_scaled_and_the_same_edges_are_found(network):
    data = network.data_preprocessor(batch(), True)
    (before, *_) = network(**data, mode='predict')
    before = before.pred_edge.data
    loss = network(**data, mode='loss')['loss_edge']
    network.scale_features(data['data_samples'])
    torch.testing.assert_close(network(**data, mode='loss')['loss_edge'], loss)
    # A probability that lies on the edge of a percent may be rounded otherwise.
    assert ((network(**data, mode='predict')[0].pred_edge.data.int() - before.int()).abs() <= 1).all()
    label = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    void = label == 255
    one_hot = one_hot_map(label.masked_fill(void, 0), void, NUM_CLASSES)
    for features in edge_features(one_hot, [(layer.weight, layer.bias) for layer in network.layers]):
        assert features.square().mean(1)[~void].mean().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize('value', [-100.0, float('nan')])
def test_a_network_without_features_is_not_scaled(value):
    network = EdgeNetwork(NUM_CLASSES)
    with torch.no_grad():
        network.layers[0].bias.fill_(value)
    with pytest.raises(ValueError, match=r'root mean square .* got (0\.0|nan)\.'):
        network.scale_features(network.data_preprocessor(batch(), True)['data_samples'])


def test_void_labels_are_nothing_to_scale_by(network):
    samples = network.data_preprocessor(batch(), True)['data_samples']
    for sample in samples:
        sample.gt_sem_seg.data = torch.full_like(sample.gt_sem_seg.data, 255)
    with pytest.raises(ValueError, match='All labels are void'):
        network.scale_features(samples)


def test_what_is_saved_is_what_the_loss_loads(network, tmp_path):
    path = str(tmp_path / 'edge_network.pth')
    save_edge_network(network, path)
    layers = load_edge_layers(path)
    probability = torch.rand(1, NUM_CLASSES, 9, 9, generator=torch.Generator().manual_seed(0))
    *_, features = edge_features(probability, layers)
    assert torch.equal(network.edges(features), network(probability))
    assert torch.load(path, weights_only=True)['state_dict'].keys() == network.state_dict().keys()
    other = EdgeNetwork(NUM_CLASSES, channels=(8, 8))
    other.load_state_dict(torch.load(path, weights_only=True)['state_dict'], strict=True)


def test_no_layer_behaves_otherwise_in_training(network):
    probability = torch.rand(1, NUM_CLASSES, 9, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.train()(probability), network.eval()(probability))
    assert not [*network.buffers()]

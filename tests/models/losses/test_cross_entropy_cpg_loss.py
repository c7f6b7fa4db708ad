"""CrossEntropyCPGLoss against MMSegmentation's CrossEntropyLoss with CPGLoss, in stock heads."""

import copy
import os
import pickle
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from torch.nn.parallel import DistributedDataParallel

from mmseg_cpg.ops import boundary_targets
from tests.inputs import blobs, random_logits
from tests.models.decode_heads.test_stock_heads import CE, CPG, NUM_CLASSES, batch, build, deeplabv3, lraspp, ocrnet

OPTIONS = {
    'softmax': (CE, CPG),
    'all pixels': (dict(CE, avg_non_ignore=False, loss_weight=0.4), dict(CPG, ksize=5, loss_weight=2.0)),
    'BCE': (dict(CE, use_sigmoid=True), dict(CPG, ksize=7)),
    'as background': (CE, dict(CPG, ignore_policy='as_background', class_weight=[1.0, 2.0, 0.5, 0.0])),
}


def fused(cross_entropy=CE, cpg=CPG):
    return dict(type='CrossEntropyCPGLoss', cross_entropy=cross_entropy, cpg=cpg)


def losses_and_gradients(model, data):
    """What a training step logs, and the gradients that it makes."""
    model.zero_grad()
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    return log, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same(actual, expected, tolerance=1e-4):
    """Batch normalization amplifies the rounding of the logits' gradient on its way to the first layers."""
    (log, gradients), (expected_log, expected_gradients) = actual, expected
    assert log.keys() == expected_log.keys()
    for name, value in log.items():
        torch.testing.assert_close(value, expected_log[name], rtol=1e-5, atol=1e-6, msg=name)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(gradient.norm() for gradient in expected_gradients.values())
    for name, gradient in gradients.items():
        error = (gradient - expected_gradients[name]).norm()
        assert error <= tolerance * (expected_gradients[name].norm() + largest), name


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize(('network', 'size_px'), [(deeplabv3, 64), (ocrnet, 64), (lraspp, 400)])
def test_training_steps_are_those_of_the_two_losses(network, size_px, options):
    models = [build(network(loss)) for loss in (fused(*options), list(options))]
    optimizer = OptimWrapper(torch.optim.SGD(models[0].parameters(), lr=1e-3))
    for _ in range(2):
        models[1].load_state_dict(models[0].state_dict())
        data = models[0].data_preprocessor(batch(size_px), True)
        assert_same(*(losses_and_gradients(model, data) for model in models))
        optimizer.step()


@pytest.mark.parametrize('thresh', [None, 0.7])
def test_ohem(thresh):
    results = []
    for loss in (fused(), [CE, CPG]):
        config = deeplabv3(loss)
        config['decode_head']['sampler'] = dict(type='OHEMPixelSampler', thresh=thresh, min_kept=500)
        model = build(config)
        results.append(losses_and_gradients(model, model.data_preprocessor(batch(64), True)))
    assert_same(*results)


def test_class_weights():
    """Without void: MMSegmentation looks up the class weight of void pixels, too, and fails."""
    label = blobs((2, 30, 40), NUM_CLASSES)
    # With avg_non_ignore OneDL's fork fails in every case.
    cross_entropy = dict(CE, class_weight=[0.5, 2.0, 1.0, 3.0], avg_non_ignore=False)
    values, gradients = [], []
    for losses in (MODELS.build(fused(cross_entropy)), [MODELS.build(cross_entropy), MODELS.build(CPG)]):
        logits = random_logits(label, NUM_CLASSES)
        values.append([loss(logits, label, ignore_index=255) for loss in losses])
        gradients += torch.autograd.grad(sum(values[-1]), logits)
    torch.testing.assert_close(*values)
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[1].norm()


def test_class_weights_are_converted_once_and_are_in_no_checkpoint():
    loss = MODELS.build(fused(dict(CE, class_weight=[1e5, 0.8373, 1.0, 1.0]))).half()
    label = blobs((1, 20, 30), NUM_CLASSES)
    cross_entropy, _ = loss
    weight = cross_entropy.class_weight
    loss(random_logits(label, NUM_CLASSES), label)
    assert cross_entropy.class_weight is weight
    assert torch.equal(weight, torch.tensor([1e5, 0.8373, 1.0, 1.0]))
    assert not loss.state_dict()
    with pytest.raises(ValueError, match=r"class_weight must be a list of finite numbers, .* got \['a'\]"):
        MODELS.build(fused(dict(CE, class_weight=['a'])))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_under_autocast(dtype):
    results = []
    for loss in (fused(), [CE, CPG]):
        model = build(deeplabv3(loss))
        with torch.autocast('cpu', dtype=dtype):
            results.append(losses_and_gradients(model, model.data_preprocessor(batch(64), True)))
    # The gradient of the logits is rounded once here and twice there, and then goes through half precision layers.
    assert_same(*results, tolerance=8 * torch.finfo(dtype).eps)


def test_auxiliary_head_and_one_channel():
    results = []
    options = (dict(CE, use_sigmoid=True), CPG)
    for loss in (fused(*options), list(options)):
        config = deeplabv3(loss)
        for name in ('decode_head', 'auxiliary_head'):
            config[name].update(num_classes=2, out_channels=1, threshold=0.3, loss_decode=loss)
        model = build(config)
        results.append(losses_and_gradients(model, model.data_preprocessor(batch(64, num_classes=2), True)))
    assert_same(*results)


def test_among_other_losses_it_is_logged_as_a_whole():
    others = [dict(type='RMILoss')]
    results = []
    for losses in ([fused(), *others], [CE, CPG, *others]):
        model = build(deeplabv3(losses))
        results.append(losses_and_gradients(model, model.data_preprocessor(batch(64), True)))
    (log, gradients), (expected_log, expected_gradients) = results
    assert {'decode.loss_ce_cpg', 'decode.loss_rmi'} < log.keys()
    torch.testing.assert_close(
        log['decode.loss_ce_cpg'], expected_log['decode.loss_ce'] + expected_log['decode.loss_cpg']
    )
    assert_same(({'loss': log['loss']}, gradients), ({'loss': expected_log['loss']}, expected_gradients))


def _train_step(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    label = blobs((2, 20, 30), NUM_CLASSES, void=0.02)[rank : rank + 1]
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))[rank : rank + 1]
    torch.manual_seed(0)
    layer = DistributedDataParallel(torch.nn.Conv2d(3, NUM_CLASSES, 1))
    sum(loss(layer(images), label) for loss in MODELS.build(fused())).backward()
    torch.save(layer.module.weight.grad, folder / f'{rank}.pth')
    # torch can deadlock when it frees a process group that has just been used. So both leave without that, after the
    # other has got its gradient.
    while not (folder / f'{1 - rank}.pth').exists():
        time.sleep(0.01)
    os._exit(0)


def test_distributed(tmp_path):
    mp.spawn(_train_step, (tmp_path,), nprocs=2)
    label = blobs((2, 20, 30), NUM_CLASSES, void=0.02)
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, NUM_CLASSES, 1)
    for image in range(2):
        part = slice(image, image + 1)
        total = sum(MODELS.build(loss)(layer(images[part]), label[part], ignore_index=255) for loss in (CE, CPG))
        (0.5 * total).backward()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f'{rank}.pth'), layer.weight.grad)


def test_copies_work_and_checkpoints_are_those_of_a_model_without_the_loss():
    label = blobs((2, 20, 30), NUM_CLASSES, void=0.02)
    logits = random_logits(label, NUM_CLASSES)
    loss = MODELS.build(fused())
    assert not loss.state_dict()
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(logits, label), loss(logits, label))


def test_an_infinite_loss_of_finite_logits_is_not_nan():
    loss = MODELS.build(fused())
    label = blobs((1, 20, 30), NUM_CLASSES)
    logits = random_logits(label, NUM_CLASSES).detach()
    logits[0, label[0, 0, 0], 0, 0], logits[0, label[0, 0, 0] - 1, 0, 0] = -3e38, 3e38
    value, _ = (each(logits.requires_grad_(), label) for each in loss)
    value.backward()
    assert value.item() == MODELS.build(CE)(logits, label).item() == float('inf')
    assert logits.grad.isfinite().all()


def test_without_weight_there_is_no_warning_of_empty_batches(recwarn):
    loss = MODELS.build(fused(cpg=dict(CPG, loss_weight=0.0)))
    label = torch.tensor([[[0, 0, 1, 1]] * 4])
    with torch.no_grad():
        for _ in range(101):
            loss(torch.zeros(1, NUM_CLASSES, 4, 4), label)
    assert not [each for each in recwarn if 'consecutive batches' in str(each.message)]


def test_its_parts_may_name_the_scope_of_their_registry():
    loss = MODELS.build(fused(dict(CE, _scope_='mmseg'), dict(CPG, _scope_='mmseg_cpg', ksize=5)))
    assert loss[1].ksize == 5


def test_a_warning_names_the_loss_of_the_config():
    loss = MODELS.build(fused())
    label = blobs((1, 20, 30), NUM_CLASSES)
    loss[1].precomputed = (boundary_targets(label, 5),)
    with pytest.warns(UserWarning, match='^CrossEntropyCPGLoss ignores its precomputed targets: it needs'):
        loss(random_logits(label, NUM_CLASSES), label)


def test_the_cpg_loss_needs_the_cross_entropy_first():
    _, cpg = MODELS.build(fused())
    label = blobs((1, 20, 30), NUM_CLASSES)
    with pytest.raises(RuntimeError, match='must be called before its CPG loss'):
        cpg(random_logits(label, NUM_CLASSES), label)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ((dict(type='FocalLoss'), CPG), ValueError, "expected a config of type 'CrossEntropyLoss', got .*FocalLoss"),
        ((CE, dict(ksize=3)), ValueError, "expected a config of type 'CPGLoss', got"),
        ((CE, dict(CPG, use_sigmoid=True)), ValueError, 'use_sigmoid of the CPG loss must be False'),
        ((dict(CE, use_mask=True), CPG), ValueError, 'use_mask must be False'),
        ((dict(CE, reduction='sum'), CPG), ValueError, "must have the same reduction, got 'sum' and 'mean'"),
        ((CE, dict(CPG, loss_name='cpg')), ValueError, "loss_name must contain 'loss', .*, got 'cpg'"),
        ((CE, dict(CPG, implementation='dense')), ValueError, "must be 'auto', 'sparse' or 'triton', got 'dense'"),
        ((CE, dict(CPG, ksize=4)), ValueError, 'ksize must be odd'),
        ((CE, dict(CPG, kernel=3)), TypeError, 'kernel'),
    ],
)
def test_what_it_cannot_compute_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(fused(*options))


@pytest.mark.parametrize(('name', 'reduction'), [('sparse', 'mean'), ('separate', 'none')])
def test_log_names_the_implementation_once(name, reduction, monkeypatch):
    messages = []
    monkeypatch.setattr('mmseg_cpg.models.losses.cpg_loss.print_log', lambda message, **_: messages.append(message))
    loss = MODELS.build(fused())
    label = blobs((1, 20, 30), NUM_CLASSES)
    for _ in range(2):
        loss(random_logits(label, NUM_CLASSES), label, reduction_override=reduction)
    (message,) = messages
    assert f"CrossEntropyCPGLoss runs its '{name}' implementation" in message

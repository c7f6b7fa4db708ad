"""What only a GPU can show. ``pytest -m gpu`` runs these and nothing else."""

import threading

import pytest
import torch

from mmseg_cpg.ops import boundary_targets, cpg_loss, cross_entropy_cpg_loss
from tests.inputs import blobs, random_logits
from tests.ops.cpg.test_loss import POLICIES, assert_close

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')]


def on_gpu(label, logits):
    return label.cuda(), logits.detach().cuda().requires_grad_()


@pytest.fixture
def case():
    label = blobs((2, 200, 301), 19, void=0.003)
    return on_gpu(label, random_logits(label, 19))


@pytest.fixture
def CPGLoss():
    """The module, which needs MMSegmentation; all else here does not."""
    pytest.importorskip('mmseg')
    from mmseg_cpg import CPGLoss

    return CPGLoss


@pytest.fixture
def no_synchronization():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    yield
    torch.cuda.set_sync_debug_mode('default')


def value_and_gradient(logits, label, ksize=3, **options):
    loss = cpg_loss(logits, label, ksize, **options)
    return loss.detach(), *torch.autograd.grad(loss, logits)


def fused_value_and_gradient(logits, label, ksize=3, **options):
    result = cross_entropy_cpg_loss(logits, label, ksize, **options)
    return *(value.detach() for value in result), *torch.autograd.grad(result.total, logits)


@pytest.mark.parametrize('function', [value_and_gradient, fused_value_and_gradient])
def test_auto_is_triton(case, function):
    label, logits = case
    for auto, triton in zip(function(logits, label), function(logits, label, implementation='triton'), strict=True):
        assert torch.equal(auto, triton)


@pytest.mark.parametrize('shape', [(1, 19, 1024, 2048), (2, 150, 512, 512), (1, 1, 512, 512)])
@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_full_size_of_the_fused_loss_is_that_of_the_cpu(shape, use_sigmoid):
    batch, num_classes, *size = shape
    if num_classes == 1 and not use_sigmoid:
        pytest.skip('one channel has no softmax')
    label = blobs((batch, *size), max(num_classes, 2), void=0.002)
    logits = random_logits(label, num_classes)
    generator = torch.Generator().manual_seed(0)
    weight, *class_weights = (
        0.5 + torch.rand(shape, generator=generator) for shape in (label.shape, *[num_classes] * 2)
    )
    options = dict(weight=weight, class_weight=class_weights[0], cpg_class_weight=class_weights[1])
    expected = fused_value_and_gradient(logits, label, 5, use_sigmoid=use_sigmoid, **options)
    label, logits = on_gpu(label, logits)
    options = {name: value.cuda() for name, value in options.items()}
    actual = fused_value_and_gradient(logits, label, 5, use_sigmoid=use_sigmoid, implementation='triton', **options)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one.cpu(), other)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_fused_loss_waits_for_nothing(case, use_sigmoid):
    label, logits = case
    weights = dict(weight=torch.ones(label.shape).cuda(), class_weight=torch.ones(19).cuda())
    fused_value_and_gradient(logits, label, use_sigmoid=use_sigmoid, **weights)  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        fused_value_and_gradient(logits, label, use_sigmoid=use_sigmoid, **weights)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('shape', [(1, 19, 1024, 2048), (2, 150, 512, 512), (1, 2, 512, 512)])
@pytest.mark.parametrize('ksize', [3, 5, 7, 11])
@pytest.mark.parametrize('implementation', ['sparse', 'triton'])
@pytest.mark.parametrize('ignore_policy', POLICIES)
def test_full_size_is_that_of_the_cpu(shape, ksize, implementation, ignore_policy):
    batch, num_classes, *size = shape
    label = blobs((batch, *size), num_classes, void=0.002)
    logits = random_logits(label, num_classes)
    expected = value_and_gradient(logits, label, ksize, ignore_policy=ignore_policy)
    label, logits = on_gpu(label, logits)
    actual = value_and_gradient(logits, label, ksize, ignore_policy=ignore_policy, implementation=implementation)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one.cpu(), other)


@pytest.mark.parametrize('ksize', [3, 7])
def test_boundary_is_that_of_the_cpu_to_the_bit(ksize):
    label = blobs((2, 300, 401), 19, void=0.003)
    expected, actual = (boundary_targets(each, ksize, num_classes=19) for each in (label, label.cuda()))
    for name in ('pixel', 'class_index', 'edge_true'):
        assert torch.equal(getattr(actual, name).cpu().long(), getattr(expected, name).long())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_dtypes_and_memory_formats(case, dtype, memory_format):
    label, logits = case
    logits = logits.detach().to(dtype, memory_format=memory_format).requires_grad_()
    loss, gradient = value_and_gradient(logits, label, 5, implementation='triton')
    expected = value_and_gradient(logits.detach().double().requires_grad_(), label, 5, implementation='dense')
    assert gradient.dtype == dtype
    assert gradient.stride() == logits.stride()
    assert_close(loss.cpu(), expected[0].cpu())
    eps = torch.finfo(dtype).eps
    assert (gradient.double() - expected[1]).norm() <= (2 * eps + 2e-5) * expected[1].norm() + 1e-7


@pytest.mark.usefixtures('no_synchronization')
@pytest.mark.parametrize('precomputed', [False, True])
def test_loss_waits_for_nothing(case, precomputed, CPGLoss):
    label, logits = case
    loss = CPGLoss(ksize=5, class_weight=[1.0] * 19).cuda()
    torch.cuda.set_sync_debug_mode('default')
    loss(logits, label).backward()  # compiles
    if precomputed:
        loss.precomputed = (boundary_targets(label, 5),)
    torch.cuda.set_sync_debug_mode('error')
    loss(logits, label, weight=torch.ones_like(label, dtype=torch.float32)).backward()


def test_same_bits_in_every_run(case):
    label, logits = case
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (value_and_gradient(logits, label, 7) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_streams(case):
    label, logits = case
    expected = value_and_gradient(logits, label)
    torch.cuda.synchronize()
    streams, results = [torch.cuda.Stream() for _ in range(4)], []
    for stream in streams:
        with torch.cuda.stream(stream):
            results.append(value_and_gradient(logits, label))
    torch.cuda.synchronize()
    for result in results:
        assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))


def test_threads(case):
    label, logits = case
    expected = value_and_gradient(logits, label)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(value_and_gradient(logits.detach().requires_grad_(), label)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_second_gpu_while_the_first_is_current(case):
    label, logits = case
    expected = value_and_gradient(logits, label)
    actual = value_and_gradient(logits.detach().to('cuda:1').requires_grad_(), label.to('cuda:1'))
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.cpu(), other.cpu())


def test_cuda_graph(case):
    label, logits = case
    expected = value_and_gradient(logits, label)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        value_and_gradient(logits, label)  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = value_and_gradient(logits, label)
    for each in captured:
        each.zero_()
    graph.replay()
    for one, other in zip(captured, expected, strict=True):
        assert torch.equal(one, other)


def test_compiled_model(case, CPGLoss):
    label, _ = case
    layer = torch.nn.Conv2d(4, 19, 1).cuda()
    images = torch.randn(2, 4, *label.shape[1:], device='cuda')
    loss = CPGLoss()

    def step(images):
        return loss(layer(images), label)

    (expected,) = torch.autograd.grad(step(images), layer.weight)
    (gradient,) = torch.autograd.grad(torch.compile(step)(images), layer.weight)
    torch.testing.assert_close(gradient, expected)


def test_mixed_precision_training_step(case, CPGLoss):
    label, _ = case
    layer = torch.nn.Conv2d(4, 19, 1).cuda()
    optimizer, scaler = torch.optim.SGD(layer.parameters(), 0.1), torch.amp.GradScaler('cuda')
    images = torch.randn(2, 4, *label.shape[1:], device='cuda')
    loss, before = CPGLoss(), layer.weight.detach().clone()
    with torch.autocast('cuda', dtype=torch.float16):
        value = loss(layer(images), label)
    assert value.dtype == torch.float32
    scaler.scale(value).backward()
    scaler.step(optimizer)
    assert layer.weight.isfinite().all()
    assert not torch.equal(layer.weight, before)


def test_logits_of_more_than_2_to_the_31_elements():
    if torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip('needs 40 GiB')
    label = blobs((1, 256, 256), 150).repeat(250, 1, 1)
    logits = torch.zeros(250, 150, 256, 256, device='cuda', dtype=torch.float16)
    small = random_logits(label[:1], 150, dtype=torch.float16).detach().cuda()
    logits[-1:] = small
    label = label.cuda()
    label[:-1] = 255
    expected = value_and_gradient(small.requires_grad_(), label[-1:])
    loss, gradient = value_and_gradient(logits.requires_grad_(), label)
    assert_close(loss.cpu(), expected[0].cpu(), tolerance=1e-6)
    assert torch.equal(gradient[-1:], expected[1])
    assert not gradient[:-1].any()


def test_warns_of_batches_without_boundary(case, CPGLoss):
    label, logits = case
    loss = CPGLoss()
    with pytest.warns(UserWarning, match='no boundary'):
        for _ in range(110):
            loss(logits, torch.full_like(label, 255))
            torch.cuda.synchronize()

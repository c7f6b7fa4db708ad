"""Which implementation runs, and the check of the Triton kernels, which the interpreter runs without a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmseg_cpg.ops import cpg_loss, cross_entropy_cpg_loss
from mmseg_cpg.ops.cpg import implementations, triton_kernels
from mmseg_cpg.ops.cpg.implementations import check_kernels, choose_fused_implementation, choose_implementation
from mmseg_cpg.ops.cpg.options import CPGOptions
from tests.inputs import blobs, random_logits

CPU, CUDA = torch.device('cpu'), torch.device('cuda', 0)
# Without a GPU the interpreter runs the kernels.
DEVICE = CUDA if torch.cuda.is_available() else CPU


def logits_on(device, dtype=torch.float32, shape=(2, 3, 8, 8)):
    """What the choice depends on."""
    return SimpleNamespace(device=device, dtype=dtype, shape=shape)


@pytest.fixture(autouse=True)
def nothing_checked():
    for function in (implementations.check_kernels, implementations._kernel_fault):
        function.cache_clear()
    yield
    for function in (implementations.check_kernels, implementations._kernel_fault):
        function.cache_clear()


@pytest.fixture
def interpreter_for_cuda(monkeypatch):
    """Check the kernels by the interpreter where there is no GPU."""
    check = check_kernels.__wrapped__
    monkeypatch.setattr(implementations, 'check_kernels', lambda device, *kernels: check(DEVICE, *kernels))


def test_options_are_plain_ints():
    options = CPGOptions(np.int64(5), np.uint8(255))
    assert (type(options.ksize), type(options.ignore_index)) == (int, int)


@pytest.mark.parametrize(
    ('dtype', 'options', 'use_sigmoid'),
    [
        (torch.float32, CPGOptions(), None),
        (torch.bfloat16, CPGOptions(ignore_policy='as_background'), None),
        (torch.float16, CPGOptions(use_sigmoid=True), None),
        (torch.float16, CPGOptions(), False),
        (torch.float32, CPGOptions(use_sigmoid=True), True),
    ],
)
def test_kernels_pass_their_check(dtype, options, use_sigmoid):
    with torch.inference_mode():  # as in a validation that computes the loss first
        check_kernels(DEVICE, dtype, options, use_sigmoid)


@pytest.fixture
def deterministic():
    """What nobody writes is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures('deterministic')
@pytest.mark.parametrize(
    ('name', 'use_sigmoid'),
    [('error_kernel', None), ('class_gradient_kernel', None), ('gradient_kernel', None), ('gradient_kernel', False)],
)
def test_a_kernel_that_does_nothing_is_found(name, use_sigmoid, monkeypatch):
    class Idle:
        def __getitem__(self, grid):
            return lambda *arguments, **options: None

    monkeypatch.setattr(triton_kernels, name, Idle())
    with pytest.raises(RuntimeError, match='differs from the sparse implementation'):
        check_kernels(DEVICE, torch.float32, CPGOptions(), use_sigmoid)


def test_old_triton_is_refused(monkeypatch):
    monkeypatch.setattr('triton.__version__', '3.1.0')
    with pytest.raises(RuntimeError, match=r'triton 3\.2 or newer is needed, got 3\.1\.0'):
        check_kernels(CPU, torch.float32, CPGOptions())


def test_auto_falls_back_with_the_reason(monkeypatch, interpreter_for_cuda):
    assert choose_implementation(logits_on(CUDA), CPGOptions()).name == 'triton'
    implementations._kernel_fault.cache_clear()
    monkeypatch.setattr(triton_kernels, 'error_kernel', None)
    name, reason, is_fallback = choose_implementation(logits_on(CUDA), CPGOptions())
    assert (name, is_fallback) == ('sparse', True)
    assert "TypeError: 'NoneType' object is not subscriptable" in reason


def test_triton_raises_the_original_error(monkeypatch, interpreter_for_cuda):
    class CompilationError(Exception):
        pass

    class Failing:
        def __getitem__(self, grid):
            raise CompilationError('no such instruction')

    monkeypatch.setattr(triton_kernels, 'gradient_kernel', Failing())
    with pytest.raises(CompilationError, match='no such instruction'):
        choose_implementation(logits_on(CUDA), CPGOptions(), 'triton')
    assert choose_implementation(logits_on(CUDA), CPGOptions()).is_fallback


def test_out_of_memory_is_no_fault_of_the_kernels(monkeypatch):
    def check(*kernels):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(implementations, 'check_kernels', check)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        choose_implementation(logits_on(CUDA), CPGOptions())


def test_kernels_are_checked_once_for_a_device_a_dtype_and_options(monkeypatch):
    checked = []
    monkeypatch.setattr(implementations, 'check_kernels', lambda *key: checked.append(key))
    for dtype in (torch.float32, torch.float16, torch.float32):
        for ksize, ignore_index in ((3, 255), (5, 255), (3, 0)):
            assert choose_implementation(logits_on(CUDA, dtype), CPGOptions(ksize, ignore_index)).name == 'triton'
    assert len(checked) == len(set(checked)) == 4


@pytest.mark.parametrize(
    ('logits', 'reason'),
    [
        (logits_on(CPU), 'the logits are on the CPU'),
        (logits_on(CUDA, torch.float64), 'not torch.float64'),
        (logits_on(CUDA, shape=(1, 2, 2**16, 2**15)), r'fewer than 2\^31 pixels'),
        (logits_on(torch.device('mps')), 'not on mps'),
    ],
)
def test_sparse_where_triton_is_not_for(logits, reason):
    choice = choose_implementation(logits, CPGOptions())
    assert (choice.name, choice.is_fallback) == ('sparse', False)
    assert reason.replace('\\', '') in choice.reason
    if logits.device != CPU:
        with pytest.raises(ValueError, match=f"implementation='triton' cannot run: .*{reason}"):
            choose_implementation(logits, CPGOptions(), 'triton')


def test_function_warns_of_the_fallback(monkeypatch):
    choice = implementations.Choice('sparse', 'the kernels are broken', is_fallback=True)
    monkeypatch.setattr('mmseg_cpg.ops.cpg.loss.choose_implementation', lambda *arguments: choice)
    label = blobs((1, 8, 9), 3)
    with pytest.warns(UserWarning, match="'sparse' implementation: the kernels are broken"):
        cpg_loss(random_logits(label, 3), label)


@pytest.mark.parametrize(
    ('logits', 'reduction', 'name', 'reason'),
    [
        (logits_on(CPU), 'mean', 'sparse', 'the logits are on the CPU'),
        (logits_on(CPU), 'none', 'separate', "sparse supports reduction 'mean' and 'sum', not 'none'"),
        (logits_on(CPU, shape=(2, 1, 8, 8)), 'mean', 'separate', 'sparse supports logits with several channels'),
        (logits_on(CUDA, torch.float64), 'mean', 'separate', 'not torch.float64'),
        (logits_on(torch.device('mps')), 'mean', 'separate', 'not on mps'),
        (logits_on(CUDA), 'none', 'triton', 'the logits are on cuda:0'),
    ],
)
def test_choice_of_the_fused_loss(logits, reduction, name, reason, monkeypatch):
    monkeypatch.setattr(implementations, 'check_kernels', lambda *kernels: None)
    choice = choose_fused_implementation(logits, CPGOptions(), False, reduction)
    assert (choice.name, choice.is_fallback) == (name, False)
    assert reason in choice.reason
    assert choose_fused_implementation(logits, CPGOptions(), False, reduction, 'separate').name == 'separate'
    for other in {'sparse', 'triton'} - {name}:
        if other == 'triton' and logits.device == CPU and DEVICE == CPU:
            continue  # the interpreter's
        with pytest.raises(ValueError, match=f"implementation='{other}' cannot run: {other} supports"):
            choose_fused_implementation(logits, CPGOptions(), False, reduction, other)


def test_fused_loss_falls_back_with_the_reason(monkeypatch, interpreter_for_cuda):
    monkeypatch.setattr(triton_kernels, 'error_kernel', None)
    choice = choose_fused_implementation(logits_on(CUDA), CPGOptions(), False, 'mean')
    assert (choice.name, choice.is_fallback) == ('separate', True)
    assert "TypeError: 'NoneType' object is not subscriptable" in choice.reason
    with pytest.raises(TypeError, match='not subscriptable'):
        choose_fused_implementation(logits_on(CUDA), CPGOptions(), False, 'mean', 'triton')


def test_fused_function_warns_of_the_fallback(monkeypatch):
    choice = implementations.Choice('separate', 'the kernels are broken', is_fallback=True)
    monkeypatch.setattr('mmseg_cpg.ops.cpg.fused.choose_fused_implementation', lambda *arguments: choice)
    label = blobs((1, 8, 9), 3)
    with pytest.warns(UserWarning, match="'separate' implementation: the kernels are broken"):
        cross_entropy_cpg_loss(random_logits(label, 3), label)

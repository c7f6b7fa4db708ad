"""Which implementation runs, and the check of the Triton kernels, which the interpreter runs without a GPU."""

from types import SimpleNamespace

import pytest
import torch

from mmseg_cpg.ops import cpg_loss
from mmseg_cpg.ops.cpg import implementations, triton_kernels
from mmseg_cpg.ops.cpg.implementations import check_kernels, choose_implementation
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
    monkeypatch.setattr(implementations, 'check_kernels', lambda device, dtype, options: check(DEVICE, dtype, options))


@pytest.mark.parametrize(
    ('dtype', 'options'),
    [
        (torch.float32, CPGOptions()),
        (torch.bfloat16, CPGOptions(ignore_policy='as_background')),
        (torch.float16, CPGOptions(use_sigmoid=True)),
    ],
)
def test_kernels_pass_their_check(dtype, options):
    check_kernels(DEVICE, dtype, options)


@pytest.fixture
def deterministic():
    """What nobody writes is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures('deterministic')
@pytest.mark.parametrize('name', ['error_kernel', 'class_gradient_kernel', 'gradient_kernel'])
def test_a_kernel_that_does_nothing_is_found(name, monkeypatch):
    class Idle:
        def __getitem__(self, grid):
            return lambda *arguments, **options: None

    monkeypatch.setattr(triton_kernels, name, Idle())
    with pytest.raises(RuntimeError, match='differs from the sparse implementation'):
        check_kernels(DEVICE, torch.float32, CPGOptions())


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
    def check(device, dtype, options):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(implementations, 'check_kernels', check)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        choose_implementation(logits_on(CUDA), CPGOptions())


def test_kernels_are_checked_once_for_a_device_a_dtype_and_options(monkeypatch):
    checked = []
    monkeypatch.setattr(implementations, 'check_kernels', lambda *key: checked.append(key))
    for dtype in (torch.float32, torch.float16, torch.float32):
        for ksize in (3, 5, 3):
            assert choose_implementation(logits_on(CUDA, dtype), CPGOptions(ksize)).name == 'triton'
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

import multiprocessing
import threading

import pytest
import torch

from mmseg_cpg.ops._threads import parallel_map, run_alone

CPU = torch.device('cpu')


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_from_threads_with_one_torch_thread_each(threads):
    def work(part):
        torch.ones(300, 300) @ torch.ones(300, 300)
        return part, torch.get_num_threads(), torch.is_grad_enabled(), threading.get_ident()

    parts, counts, grads, idents = zip(*parallel_map(work, range(40), CPU), strict=True)
    assert parts == tuple(range(40))
    assert set(counts) == {1}
    assert set(grads) == {False}
    assert (threading.get_ident() in idents) == (threads == 1)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_threads_of_others_keep_their_number(threads):
    list(parallel_map(abs, range(3), CPU))
    found = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [threads]


def test_errors_are_raised(threads):
    with pytest.raises(ZeroDivisionError):
        list(parallel_map(lambda part: 1 / part, [1, 0], CPU))


def test_inference_mode_is_kept(threads):
    with torch.inference_mode():
        assert all(parallel_map(lambda _: torch.zeros(1).is_inference(), range(4), CPU))
    assert not any(parallel_map(lambda _: torch.zeros(1).is_inference(), range(4), CPU))


def test_run_alone_uses_one_torch_thread(threads):
    @run_alone
    def work(values, factor):
        return values * factor, torch.get_num_threads(), torch.is_grad_enabled()

    assert work(torch.tensor(2), factor=3) == (6, 1, False)


def _work_in_child(queue):
    torch.set_num_threads(2)
    queue.put(list(parallel_map(abs, range(3), CPU)))


@pytest.mark.skipif('fork' not in multiprocessing.get_all_start_methods(), reason='needs fork')
def test_a_forked_process_has_threads_of_its_own(threads):
    """As a data loader's workers are, after the loss has run in the main process."""
    list(parallel_map(abs, range(3), CPU))
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    child = context.Process(target=_work_in_child, args=(queue,))
    child.start()
    child.join(60)
    assert not child.is_alive()
    assert queue.get() == [0, 1, 2]

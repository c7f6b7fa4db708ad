"""A checkpoint is there as a whole or not at all, whatever happens while it is written."""

import errno
import os
import signal

import pytest
from mmengine.fileio import LocalBackend, get_file_backend

from mmseg_cpg.engine.atomic_backend import AtomicLocalBackend, write_atomically


def write_half(then):
    """Make LocalBackend.put write half of the bytes and then fail."""

    def put(self, obj, filepath):
        with open(filepath, 'wb') as file:
            file.write(obj[: len(obj) // 2])
            file.flush()
            then()

    return put


def fill_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('earlier', [None, b'earlier'])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, earlier):
    path = tmp_path / 'iter_1.pth'
    if earlier is not None:
        path.write_bytes(earlier)
    monkeypatch.setattr(LocalBackend, 'put', write_half(fill_disk))
    with pytest.raises(OSError) as raised:
        AtomicLocalBackend().put(b'0123456789', str(path))
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [('iter_1.pth', earlier)] * bool(earlier)


def test_an_interruption_leaves_no_part(tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalBackend, 'put', write_half(interrupt))
    with pytest.raises(KeyboardInterrupt):
        AtomicLocalBackend().put(b'0123456789', tmp_path / 'iter_1.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('earlier', [None, b'earlier'])
def test_a_kill_leaves_what_was_there(tmp_path, monkeypatch, earlier):
    path = tmp_path / 'iter_1.pth'
    if earlier is not None:
        path.write_bytes(earlier)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(LocalBackend, 'put', write_half(lambda: os.kill(os.getpid(), signal.SIGKILL)))
        AtomicLocalBackend().put(b'0123456789', str(path))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.exists() == bool(earlier)
    assert earlier is None or path.read_bytes() == earlier
    AtomicLocalBackend().put(b'0123456789', path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [('iter_1.pth', b'0123456789')]


def test_the_tools_write_through_it(tmp_path):
    write_atomically()
    for backend in (get_file_backend(str(tmp_path)), get_file_backend(backend_args=dict(backend='local'))):
        assert type(backend) is AtomicLocalBackend
    backend.put(b'x', tmp_path / 'new' / 'file')
    assert (tmp_path / 'new' / 'file').read_bytes() == b'x'

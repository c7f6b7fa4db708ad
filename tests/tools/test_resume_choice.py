"""``--resume`` takes the newest checkpoint that can be read, and says why newer ones were passed over."""

import json
import os
import shutil

import pytest
import torch


@pytest.fixture(scope='module')
def trained(write_config, tmp_path_factory):
    """A config and an empty folder; a test that runs first trains there."""
    folder = tmp_path_factory.mktemp('trained')
    return write_config(folder), folder / 'work'


@pytest.fixture
def work_dir(trained, run_tool, tmp_path):
    """A copy of the work dir of a run of three iterations, saved after each."""
    config, original = trained
    if not (original / 'last_checkpoint').exists():
        run_tool('train', config)
    copy = shutil.copytree(original, tmp_path / 'work')
    for log in copy.glob('*/vis_data'):
        shutil.rmtree(log)
    name_as_last(copy, 'iter_3.pth')
    return copy


def name_as_last(work_dir, name):
    (work_dir / 'last_checkpoint').write_text(str(work_dir / name))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path, count=2000):
    """Flip bytes in the middle of a file, where the tensors are."""
    content = bytearray(path.read_bytes())
    first = len(content) // 2 - count // 2
    content[first : first + count] = (byte ^ 0xFF for byte in content[first : first + count])
    path.write_bytes(content)


def without_optimizer(path):
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['optimizer']
    torch.save(checkpoint, path)


def resumed_steps(run_tool, config, work_dir, *options):
    """Resume, and return the iterations that were trained then, and the log."""
    logs = set(work_dir.glob('*/*.log'))
    run_tool('train', config, '--work-dir', work_dir, '--resume', *options)
    rows = [json.loads(line) for path in work_dir.glob('*/vis_data/scalars.json') for line in path.open()]
    (log,) = set(work_dir.glob('*/*.log')) - logs
    return [row['step'] for row in rows if 'loss' in row], log.read_text()


DAMAGES = {
    'empty': (lambda path: path.write_bytes(b''), 'is corrupt or not a checkpoint'),
    'cut off': (cut, 'is corrupt or not a checkpoint'),
    'flipped bytes': (flip, 'the checksum of'),
    'text': (lambda path: path.write_text('hello'), 'is corrupt or not a checkpoint'),
    'no optimizer': (without_optimizer, 'has no training state to resume'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_is_passed_over(trained, work_dir, run_tool, monkeypatch, damage):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    apply, message = DAMAGES[damage]
    apply(work_dir / 'iter_3.pth')
    steps, log = resumed_steps(run_tool, trained[0], work_dir)
    assert steps == [3]
    assert message in log
    assert f"Resuming from '{work_dir / 'iter_2.pth'}' instead." in log


@pytest.mark.parametrize('content', [b'', b'\n', b'\xff\xfe\0\1', b'\0' * 100, b'gone.pth', None])
def test_last_checkpoint_may_be_damaged(trained, work_dir, run_tool, content):
    (work_dir / 'iter_3.pth').unlink()
    if content is None:
        (work_dir / 'last_checkpoint').unlink()
    else:
        (work_dir / 'last_checkpoint').write_bytes(content)
    assert resumed_steps(run_tool, trained[0], work_dir)[0] == [3]


def test_a_checkpoint_that_last_checkpoint_does_not_name_yet_is_taken(trained, work_dir, run_tool):
    name_as_last(work_dir, 'iter_1.pth')
    later = (work_dir / 'last_checkpoint').stat().st_mtime_ns + 10**9
    os.utime(work_dir / 'iter_2.pth', ns=(later, later))
    assert resumed_steps(run_tool, trained[0], work_dir)[0] == [3]


def test_last_checkpoint_may_be_set_back_by_hand(trained, work_dir, run_tool):
    name_as_last(work_dir, 'iter_1.pth')
    assert resumed_steps(run_tool, trained[0], work_dir)[0] == [2, 3]


def test_a_folder_that_was_moved_is_resumed(trained, work_dir, run_tool):
    name_as_last(work_dir, '../before/iter_2.pth')
    (work_dir / 'iter_3.pth').unlink()
    steps, log = resumed_steps(run_tool, trained[0], work_dir)
    assert steps == [3]
    assert "before/iter_2.pth' not found" in log


def test_without_one_that_can_be_read_training_starts_anew_with_a_warning(trained, work_dir, run_tool):
    for path in work_dir.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:100])
    steps, log = resumed_steps(run_tool, trained[0], work_dir)
    assert steps == [1, 2, 3]
    assert f"No checkpoint in '{work_dir}' can be resumed: training starts from the beginning." in log
    assert log.count('is corrupt or not a checkpoint') == 3


@pytest.mark.parametrize('content', [b'', None])
def test_a_kill_that_left_no_checkpoint_at_all_is_noticed(trained, work_dir, run_tool, content):
    """As MMEngine with ``max_keep_ckpts=1``, which deletes the old one before it writes the new one."""
    for path in work_dir.glob('*.pth'):
        path.unlink()
    if content is None:
        (work_dir / 'last_checkpoint').unlink()
    else:
        (work_dir / 'last_checkpoint').write_bytes(content)
    steps, log = resumed_steps(run_tool, trained[0], work_dir)
    assert steps == [1, 2, 3]
    assert f"No checkpoint in '{work_dir}' can be resumed: training starts from the beginning." in log


def test_checkpoints_in_another_folder_are_found(trained, work_dir, run_tool, tmp_path):
    out_dir = tmp_path / 'checkpoints'
    (out_dir / 'work').mkdir(parents=True)
    for path in work_dir.glob('iter_*.pth'):
        shutil.move(path, out_dir / 'work')
    (out_dir / 'work' / 'iter_3.pth').unlink()
    (work_dir / 'last_checkpoint').write_bytes(b'')
    options = ['--cfg-options', f'default_hooks.checkpoint.out_dir={out_dir}']
    assert resumed_steps(run_tool, trained[0], work_dir, *options)[0] == [3]


def test_the_option_resume_of_a_config_does_the_same(trained, work_dir, run_tool):
    cut(work_dir / 'iter_3.pth')
    run_tool('train', trained[0], '--work-dir', work_dir, '--cfg-options', 'resume=True')
    assert len(list(work_dir.glob('*/vis_data/scalars.json'))) == 1
    assert torch.load(work_dir / 'iter_3.pth', weights_only=False)['meta']['iter'] == 3


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_that_is_named_is_one_line(trained, work_dir, fails_with, monkeypatch, damage):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    apply, message = DAMAGES[damage]
    apply(work_dir / 'iter_3.pth')
    before = (work_dir / 'iter_3.pth').read_bytes()
    assert message in fails_with('train', trained[0], '--work-dir', work_dir, '--resume', work_dir / 'iter_3.pth')
    assert (work_dir / 'iter_3.pth').read_bytes() == before


def test_flipped_bytes_are_noticed_in_testing(trained, work_dir, fails_with):
    flip(work_dir / 'iter_3.pth')
    path = work_dir / 'iter_3.pth'
    message = fails_with('test', trained[0], path, '--work-dir', work_dir)
    assert (
        f"Checkpoint '{work_dir / 'iter_3.pth'}' is corrupt or not a checkpoint (BadZipFile: the checksum of" in message
    )


def test_a_checkpoint_of_another_model_is_one_line(trained, work_dir, fails_with):
    options = ['--cfg-options', 'model.decode_head.num_convs=2']
    message = fails_with('train', trained[0], '--work-dir', work_dir, '--resume', work_dir / 'iter_2.pth', *options)
    assert f"Checkpoint '{work_dir / 'iter_2.pth'}' does not fit the config: ValueError: loaded state dict" in message


def test_a_checkpoint_deletes_no_files_but_those_of_its_own_run(trained, work_dir, run_tool, tmp_path):
    """MMEngine deletes the best checkpoint of before, and outdated ones, by what the checkpoint says."""
    others = tmp_path / 'others'
    others.mkdir()
    (others / 'best_x.pth').write_text('precious')
    (work_dir / 'iter_').mkdir()  # through which '../' in a number would lead elsewhere
    checkpoint = torch.load(work_dir / 'iter_2.pth', weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    (work_dir / 'iter_3.pth').unlink()
    for victim in (others, others / 'best_x.pth', work_dir / '..' / 'others' / 'best_x.pth'):
        info.update(best_ckpt=str(victim), best_score=-1.0, keep_ckpt_ids=['/../../others/best_x', 1])
        torch.save(checkpoint, work_dir / 'iter_2.pth')
        options = ['default_hooks.checkpoint.max_keep_ckpts=1']
        run_tool(
            'train', trained[0], '--work-dir', work_dir, '--resume', work_dir / 'iter_2.pth', '--cfg-options', *options
        )
        assert (others / 'best_x.pth').read_text() == 'precious'
        assert list(work_dir.glob('best_*.pth'))


def test_the_best_checkpoint_of_the_run_itself_is_replaced(trained, work_dir, run_tool):
    (best,) = work_dir.glob('best_*.pth')
    checkpoint = torch.load(work_dir / 'iter_2.pth', weights_only=False)
    old = best.rename(work_dir / 'best_mIoU_iter_1.pth')
    checkpoint['message_hub']['runtime_info'].update(best_ckpt=str(old), best_score=-1.0)
    torch.save(checkpoint, work_dir / 'iter_2.pth')
    run_tool('train', trained[0], '--work-dir', work_dir, '--resume', work_dir / 'iter_2.pth')
    assert [path.name for path in work_dir.glob('best_*.pth')] == ['best_mIoU_iter_3.pth']

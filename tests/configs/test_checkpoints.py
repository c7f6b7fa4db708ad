import pytest

from tests.configs.reading import CONFIGS, read

TRAINED = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.relative_to(CONFIGS).parts)


@pytest.mark.parametrize('path', [*TRAINED, CONFIGS / 'semeda/_base_/edge_network.py'], ids=lambda path: path.stem)
def test_two_checkpoints_or_all_are_kept(path):
    """MMEngine deletes the old one before it has written the new one, and may be killed in between."""
    number = read(path).default_hooks.checkpoint.get('max_keep_ckpts', -1)
    assert number == -1 or number >= 2

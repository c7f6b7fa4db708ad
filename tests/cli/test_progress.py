import pytest

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.cli.progress import LINES_SHOWN, output_to


def test_output_goes_to_a_file(tmp_path, capsys):
    for text in ('first', 'second'):
        with output_to(tmp_path / 'new' / 'train.log') as console:
            print(text)
            print('shown', file=console)
    assert (tmp_path / 'new' / 'train.log').read_text() == 'first\nsecond\n'
    assert capsys.readouterr().out == 'shown\nshown\n'


def test_an_error_shows_the_last_lines_and_where_the_rest_is(tmp_path, capsys):
    log = tmp_path / 'train.log'
    with pytest.raises(UserError, match='ZeroDivisionError: division by 0'), output_to(log):
        for line in range(100):
            print(f'line {line}')
        raise ZeroDivisionError('division by 0')
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == LINES_SHOWN + 1
    assert lines[-2:] == ['ZeroDivisionError: division by 0', f'The complete log is in {log}.']
    assert 'line 99' in lines and 'line 0' not in lines


def test_an_error_of_the_user_is_passed_on(tmp_path, capsys):
    with pytest.raises(UserError, match='wrong'), output_to(tmp_path / 'train.log'):
        raise UserError('wrong')
    assert capsys.readouterr().err == ''

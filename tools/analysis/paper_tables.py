#!/usr/bin/env python
"""Print the paper's Tables 1 to 4 with your results next to the paper's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
from collections.abc import Sequence

from mmseg_cpg.cli.errors import one_line_errors
from mmseg_cpg.experiments.tables import Table, make_tables
from mmseg_cpg.experiments.work_dirs import find_runs


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a run, or a folder that contains work dirs'
    )
    parser.add_argument(
        '--out',
        default='work_dirs/paper_tables',
        metavar='DIR',
        help='folder for the tables as Markdown and CSV (default: %(default)s)',
    )
    return parser


def write_tables(tables: list[Table], out: Path) -> None:
    """Write all tables to one Markdown file and each to a CSV file."""
    out.mkdir(parents=True, exist_ok=True)
    (out / 'paper_tables.md').write_text('\n'.join(table.markdown() for table in tables))
    for table in tables:
        (out / f'{table.name}.csv').write_text(table.csv())


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with one_line_errors():
        tables = make_tables(find_runs(args.work_dirs))
    write_tables(tables, Path(args.out))
    print('\n'.join(table.markdown() for table in tables))
    print(f'Written to {args.out}.')


if __name__ == '__main__':
    main()

#!/usr/bin/env python
"""Write the tables of README.md and docs/ from their sources, benchmarks/results/ and configs/*/metafile.yaml.

Run it after a benchmark or a change of the configs. A table stands between two comments, of which the first names it:

    <!-- table: losses -->
    <!-- end of table -->
"""

import importlib
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import read_result, read_results  # noqa: E402

MARKED = re.compile(r'(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)', re.DOTALL)


def documents():
    """Return the files that may have tables."""
    return [ROOT / 'README.md', *sorted(path for path in ROOT.glob('docs/**/*.md') if '_build' not in path.parts)]


def updated(path):
    """Return the text of a file with its tables made anew."""
    text = path.read_text('utf-8')
    return MARKED.sub(lambda match: f'{match[1]}\n{table(match[2], path)}\n\n{match[3]}', text)


def table(name, path):
    """Return a table as Markdown; measurements as a table for each machine, which is named with the commit.

    Args:
        name: ``model_zoo``, ``cost``, ``bytes_on_gpu``, or a module of benchmarks/ with the index of one of its
            tables: ``NAME:INDEX``.
        path: The file that it is for, where links start.
    """
    if name == 'model_zoo':
        return model_zoo(path)
    if name == 'cost':
        return cost()
    if name == 'bytes_on_gpu':
        return importlib.import_module('benchmarks.cross_entropy_cpg_on_gpu').paper_markdown()
    script, _, index = name.partition(':')
    parts = []
    for result in read_results(script):
        tables = importlib.import_module(f'benchmarks.{script}').markdown(result)
        parts.append(tables[int(index)] if index else tables)
        about = result['environment']
        settings = ''.join(f', {name}={about[name]}' for name in about if name.startswith('MALLOC_'))
        origin = '{device}, torch {torch}, commit {commit}'.format(**about) + settings
        parts.append(f'*{origin}:* `{result["file"]}`')
    return '\n\n'.join(parts)


def cost():
    """The README's table: the CPG loss, and the other losses' range, relative to cross-entropy."""
    cases = read_result('losses')['cases']
    sizes = ['×'.join(map(str, case['logits'])) for case in cases]
    lines = [
        '| time, forward + backward (peak memory) | ' + ' | '.join(sizes) + ' |',
        '|---' * (len(cases) + 1) + '|',
    ]
    for name in ('CrossEntropyLoss', 'CPGLoss, ksize 3', 'CPGLoss, ksize 5', 'CPGLoss, ksize 7', 'DiceLoss'):
        rows = [case['losses'][name] for case in cases]
        cells = [f'{row["over_cross_entropy"]:.1f} ({row["peak_memory"]:.1f})' for row in rows]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def model_zoo(path):
    """A section for each metafile, in the order of model-index.yml."""
    up = '../' * (len(path.relative_to(ROOT).parts) - 1)
    sections = []
    for metafile in yaml.safe_load((ROOT / 'model-index.yml').read_text('utf-8'))['Import']:
        content = yaml.safe_load((ROOT / metafile).read_text('utf-8'))
        folder = Path(metafile).parent
        lines = [f'## {folder}', '']
        for each in content.get('Collections', []):
            lines += [f'{each["Name"]}: [{each["Paper"]["Title"]}]({each["Paper"]["URL"]}).']
        lines += [
            f'The [README of this folder]({up}{folder}/README.md) has the details.',
            '',
            '| config | network | dataset | total batch size |',
            '|---|---|---|---|',
        ]
        for model in content['Models']:
            metadata = model['Metadata']
            lines.append(
                f'| [{model["Name"]}]({up}{model["Config"]}) | {", ".join(metadata["Architecture"])} '
                f'| {metadata["Training Data"]} | {metadata["Batch Size"]} |'
            )
        sections.append('\n'.join(lines))
    return '\n\n'.join(sections)


if __name__ == '__main__':
    for document in documents():
        text = updated(document)
        if text != document.read_text('utf-8'):
            document.write_text(text, 'utf-8')
            print(f'Wrote {document.relative_to(ROOT)}')

"""Configuration of the documentation (Sphinx). Build it with ``bash tools/build_docs.sh``."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mmseg_cpg import __version__

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# Files outside docs/ that are pages of the site, too; copied there at each build.
REPOSITORY_PAGES = {ROOT / name: DOCS / 'repository' / name.lower() for name in ('CHANGELOG.md', 'CONTRIBUTING.md')} | {
    path: DOCS / 'repository' / f'configs_{path.parent.name}.md' for path in ROOT.glob('configs/*/README.md')
}
LINK = re.compile(r'\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)')

project = 'mmseg-cpg'
author = 'the mmseg-cpg authors'
copyright = f'2026, {author}'
version = release = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx-mathjax-offline',
    'sphinx_copybutton',
]
exclude_patterns = ['_build', '**/.ipynb_checkpoints']

# Markdown that GitHub renders as well: $...$ for equations, heading anchors as GitHub makes them.
myst_enable_extensions = ['dollarmath', 'alert']
myst_heading_anchors = 3

nb_execution_mode = 'cache'
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell, on a busy machine

autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented_params'
autodoc_member_order = 'bysource'
napoleon_use_ivar = True
napoleon_numpy_docstring = False
# mmcv's and mmengine's base classes do not document what they pass on.
autodoc_inherit_docstrings = False

html_theme = 'furo'
html_title = f'mmseg-cpg {release}'
html_copy_source = False
html_static_path = ['_static']
html_css_files = ['custom.css']
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True


def on_site(text, folder):
    """Rewrite a page's links to files outside docs/, which work on GitHub, so that they work on the site.

    Args:
        text: Markdown.
        folder: Where its relative links start.
    """

    def replace(match):
        title, target, anchor = match[1], match[2], match[3] or ''
        path = (folder / target).resolve()
        path = path / 'README.md' if (path / 'README.md').exists() else path
        path = REPOSITORY_PAGES.get(path, path)
        if path.is_relative_to(DOCS):
            return f'[{title}](/{path.relative_to(DOCS)}{anchor})'
        if path.is_dir():
            return title
        return f'[{title}](path:/{os.path.relpath(path, DOCS)})'  # a download

    return LINK.sub(replace, text)


def copy_repository_pages(app):
    shutil.rmtree(DOCS / 'repository', ignore_errors=True)
    (DOCS / 'repository').mkdir()
    for source, page in REPOSITORY_PAGES.items():
        if source.exists():
            page.write_text(on_site(source.read_text('utf-8'), source.parent), 'utf-8')


def rewrite_links(app, docname, content):
    if not docname.startswith('repository/') and app.env.doc2path(docname).suffix == '.md':
        content[0] = on_site(content[0], DOCS / Path(docname).parent)


def setup(app):
    subprocess.run([sys.executable, DOCS / 'draw_boundaries.py'], check=True, stdout=subprocess.DEVNULL)
    app.connect('builder-inited', copy_repository_pages)
    app.connect('source-read', rewrite_links)

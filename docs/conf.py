"""Configuration of the documentation (Sphinx). Build it with ``bash tools/build_docs.sh``."""

from mmseg_cpg import __version__

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
# Guides and evidence join the site as soon as there is a file.
suppress_warnings = ['toc.empty_glob']

# Markdown that GitHub renders as well: $...$ for equations, heading anchors as GitHub makes them.
myst_enable_extensions = ['dollarmath', 'alert']
myst_heading_anchors = 3

nb_execution_mode = 'cache'
nb_execution_raise_on_error = True
nb_execution_timeout = 120

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

#!/usr/bin/env bash
# Builds the documentation into docs/_build/html; any warning, such as a broken internal link, is an error:
#     bash tools/build_docs.sh [options of sphinx-build]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh docs
export PATH=$PWD/.venv/bin:$PATH
python -m sphinx --builder html --fail-on-warning --keep-going --quiet "$@" docs docs/_build/html
echo "Built docs/_build/html/index.html"

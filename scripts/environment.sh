# shellcheck shell=bash
# Sourced by the other scripts, with the extras that they need, '' or '[one,two]': leaves the working directory at the
# repository's root and sets $python to an interpreter in .venv that has this program, those and a working OpenFHE.
#
# OpenFHE's wheels hold one compiled module each, for CPython 3.10 (glibc 2.35 or newer) and CPython 3.12
# (glibc 2.38 or newer).  3.10 is preferred, for it runs on more machines.
set -euo pipefail

extras=$1
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$PWD/.venv/bin/python
# In every .venv that was made here: another is the user's own, and is not removed.
mark=.venv/made-by-scripts
# While it is being made.
unfinished=.venv/unfinished

fail() {
    printf 'error: %s\n' "$1" >&2
    printf 'hint: %s\n' "$2" >&2
    exit 7
}

# Prints "3.10 ok", "3.12 old-glibc", "3.11 unsupported" ...; nothing if the candidate does not run.
judge() {
    "$1" -c '
import platform, sys
needed = {(3, 10): (2, 35), (3, 12): (2, 38)}.get(sys.version_info[:2])
name, version = platform.libc_ver()
if needed is None or sys.implementation.name != "cpython":
    verdict = "unsupported"
elif name == "glibc" and tuple(map(int, version.split(".")[:2])) >= needed:
    verdict = "ok"
else:
    verdict = "old-glibc"
print("%d.%d" % sys.version_info[:2], verdict)
' 2>/dev/null || true
}

candidates() {
    printf '%s\n' python3.10 python3.12 python3 python
    local pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}
    compgen -G "$pyenv/versions/3.10.*/bin/python3.10" || true
    compgen -G "$pyenv/versions/3.12.*/bin/python3.12" || true
}

# Prints the interpreter to make the environment with; fails with a reason where there is none.
choose_python() {
    local candidate verdict seen=""
    while read -r candidate; do
        verdict=$(judge "$candidate")
        if [[ $verdict == *" ok" ]]; then
            echo "$candidate"
            return
        fi
        seen+=" $verdict"
    done < <(candidates)
    local advice="install CPython 3.10 (or 3.12 where glibc is 2.38 or newer) and run this again"
    case $seen in
        *old-glibc*) fail "OpenFHE's wheels need glibc 2.35 (CPython 3.10) or 2.38 (CPython 3.12), newer than this machine's" \
            "with glibc 2.35 to 2.37 install CPython 3.10; older systems cannot run them" ;;
        *3.11*) fail "only CPython 3.11 is here, and OpenFHE has wheels for 3.10 and 3.12 alone" "$advice" ;;
        *) fail "neither CPython 3.10 nor 3.12 is here, and OpenFHE has wheels for no other" "$advice" ;;
    esac
}

make_environment() {
    [[ $(judge "$python") == *" ok" && ! -e $unfinished ]] && return
    if [[ (-e .venv || -L .venv) && ! -e $mark ]]; then
        fail "the Python in .venv cannot run this, and these scripts have not made it" "move it away: mv .venv .venv.old"
    fi
    local base
    base=$(choose_python)
    echo "making .venv with $base" >&2
    rm -rf .venv
    mkdir .venv
    touch "$mark" "$unfinished"
    "$base" -m venv .venv || {
        rm -rf .venv
        fail "$base cannot make an environment" "install its venv module (Debian: python3-venv)"
    }
    rm "$unfinished"
}

install_program() {
    local wanted
    # What is installed names the folder, which may have been moved, or copied; with any extras it will do without them.
    wanted="$PWD $(sha256sum pyproject.toml) $extras"
    [[ -f .venv/installed && $(<.venv/installed) == "$wanted"* ]] && return
    local disk="1 GB"
    [[ $extras == *torch* ]] && disk="7 GB"
    echo "installing the program and its packages into .venv (up to $disk: this takes minutes)" >&2
    "$python" -m pip install --quiet --quiet --disable-pip-version-check --editable ".$extras" ||
        fail "the packages could not be installed" "see pip's lines above; it needs a package index and $disk of disk"
    check_openfhe
    echo "$wanted" >.venv/installed
}

check_openfhe() {
    "$python" -c 'import openfhe' >&2 ||
        fail "OpenFHE was installed but cannot be loaded" \
            "it needs CPython 3.10 with glibc 2.35 or newer, or CPython 3.12 with glibc 2.38 or newer"
}

# One script at a time may change the environment: the root folder itself is the lock.
exec 9<.
if command -v flock >/dev/null; then flock 9; fi
make_environment
install_program
exec 9<&-

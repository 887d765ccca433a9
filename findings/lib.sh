# Sourced by each finding: a temp folder that goes at the end, a fresh venv in it, one comparison.
set -euo pipefail
export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"

# install NAME==VERSION...: these packages, and what they need, into the fresh venv.
install() {
    python3 -m venv venv
    venv/bin/pip install --quiet "$@" 2> pip.log || { cat pip.log >&2; exit 2; }
}

# observe: runs the Python program on stdin in the venv and keeps what it prints.
observe() { seen=$(venv/bin/python -W ignore - 2> stderr.log) || { cat stderr.log >&2; exit 2; }; }

# expect TEXT: exit 0 where what was seen is TEXT, otherwise 1.
expect() {
    if [[ $seen == "$1" ]]; then echo "as stated: $seen"; exit 0; fi
    echo "changed: stated '$1', seen '$seen'"
    exit 1
}

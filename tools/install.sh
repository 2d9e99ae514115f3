#!/usr/bin/env bash
# Makes the virtual environment and installs a lock file into it, hashes checked.
# usage: tools/install.sh PYTHON VENV LOCKFILE
set -euo pipefail
python=$1 venv=$2 lock=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Qiao needs Python 3.11 or later, and '$python' is $("$python" --version 2>&1)." >&2
  echo "Next: apt-get install python3.11 python3.11-venv, then make PYTHON=python3.11 …" >&2
  exit 3
fi
if [ ! -x "$venv/bin/python" ]; then
  if ! "$python" -m venv "$venv" 2>"$venv.log"; then
    cat "$venv.log" >&2
    echo "Next: apt-get install python3-venv" >&2
    exit 3
  fi
  rm -f "$venv.log"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
if "$venv/bin/python" -m pip install -q --require-hashes -r requirements-uv.lock 2>/dev/null &&
   "$venv/bin/uv" pip install -q --python "$venv/bin/python" --require-hashes -r "$lock" 2>/dev/null; then
  "$venv/bin/uv" pip install -q --python "$venv/bin/python" --offline --no-deps --no-build-isolation -e .
else
  "$venv/bin/python" -m pip install -q --require-hashes -r "$lock"
  "$venv/bin/python" -m pip install -q --no-deps --no-build-isolation --no-index -e .
fi

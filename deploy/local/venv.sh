#!/usr/bin/env bash
# Makes .venv, or brings it up to date: Python 3.11, exactly the locked requirements, and Plumbline itself in place.
set -euo pipefail
cd "$(dirname "$0")/../.."

is_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

python=.venv/bin/python
if ! is_311 "$python"; then
  found=
  for candidate in python3.11 python3 python; do
    if is_311 "$candidate"; then found=$candidate; break; fi
  done
  if [[ -z $found ]]; then
    echo "Plumbline needs Python 3.11, and none was found as python3.11 or python3: install it (Debian 12: apt-get install python3.11 python3.11-venv)." >&2
    exit 1
  fi
  rm -rf .venv
  if ! "$found" -m venv .venv; then
    echo "$found cannot make a virtual environment: install its venv module (Debian: apt-get install python3.11-venv)." >&2
    exit 1
  fi
fi

# The lock is complete, so nothing is resolved here; every file must have one of its hashes. Byte code is compiled now, as pip
# does by itself: without it each start of the console would take a second longer.
with_uv() { command -v uv >/dev/null && uv pip install --python "$python" --require-hashes --no-deps --compile-bytecode --quiet -r requirements.lock; }
if ! with_uv; then
  "$python" -m pip install --require-hashes --no-deps --quiet --progress-bar off --disable-pip-version-check -r requirements.lock
fi
# In place and without an index: setuptools is among the locked requirements.
"$python" -m pip install --no-deps --no-build-isolation --no-index -qq --disable-pip-version-check --editable .
echo "$("$python" --version) and $(grep -c '==' requirements.lock) locked packages are in .venv" >&2

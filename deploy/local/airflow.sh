#!/usr/bin/env bash
# Makes .venv-airflow, in which the DAG is tested: Airflow does not resolve together with Plumbline's own requirements.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=.venv-airflow/bin/python
lock=deploy/airflow/requirements.lock
[[ -x $python ]] || .venv/bin/python -m venv .venv-airflow
with_uv() { command -v uv >/dev/null && uv pip install --python "$python" --require-hashes --no-deps --quiet -r "$lock"; }
if ! with_uv; then
  "$python" -m pip install --require-hashes --no-deps --no-compile --quiet --progress-bar off --disable-pip-version-check -r "$lock"
fi
echo "$(grep -c '==' "$lock") locked packages are in .venv-airflow" >&2

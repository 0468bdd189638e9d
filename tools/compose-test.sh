#!/usr/bin/env bash
# Rehearse compose.yaml where an engine can be had; where none can, say so and check the file alone.
set -uo pipefail
cd "$(dirname "$0")/.."
tools/with-engine.sh .venv/bin/python -m tools.rehearsal
code=$?
[ $code = 69 ] || exit $code
echo "compose-test: no Docker engine can be started here, so compose.yaml is checked against its schema alone"
exec .venv/bin/python -m tools.schema_check

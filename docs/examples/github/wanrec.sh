#!/usr/bin/env bash
# The steps of action.yml. Exit codes are wanrec's own: 3 blocked, 8 not what was reviewed, 2 drift.
set -euo pipefail

MODE=${MODE:-plan} PLAN=${PLAN:-reviewed.wanplan} STATE=${STATE:-}

case $MODE in
  plan)
    if [ -n "$STATE" ]; then # no root here: specs against a copy of the state
      look=(--state "$STATE" --state-only)
    else
      look=(--out "$PLAN")
    fi
    wanrec plan "${look[@]}" --format markdown >plan.md || code=$?
    cat plan.md >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
    wanrec plan "${look[@]}" --format github || true # annotations; the code is the first one's
    exit "${code:-0}"
    ;;
  apply)
    wanrec apply --expect "$PLAN" --json-into apply.ndjson
    ;;
  drift)
    wanrec drift --format junit --output drift.xml || true
    wanrec drift --format github
    ;;
  *)
    echo "::error title=wanrec::unknown mode $MODE"
    exit 64
    ;;
esac

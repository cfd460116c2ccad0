#!/usr/bin/env bash
# The jobs of wanrec.gitlab-ci.yml; exit codes are wanrec's own.
set -euo pipefail

case ${1:-plan} in
  plan)
    wanrec plan --out reviewed.wanplan --detailed-exitcode || code=$?
    [ "${code:-0}" -eq 0 ] || [ "$code" -eq 2 ] || exit "$code" # 2: there are changes to review
    if [ -f reviewed.wanplan ]; then wanrec show reviewed.wanplan --format markdown >plan.md; fi
    ;;
  apply)
    wanrec apply --expect reviewed.wanplan
    ;;
  drift)
    # A portion a night: what was verified longest ago is read first.
    wanrec drift --deep --budget "${DRIFT_BUDGET:-10m}" --format junit --output drift.xml
    ;;
  *)
    echo "plan, apply or drift" >&2
    exit 64
    ;;
esac

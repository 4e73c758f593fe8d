#!/bin/sh
# ExLlama's issue 305 on this machine's GPUs: plans, refusals, and what the cards show, in minutes.
# Four cards, or fewer that are listed more than once. Writes the record and the picture:
#
#   bench/issue-305.sh [FOLDER]      default: bench/results and docs of this checkout
#
# A record is drawn again, without a GPU, by `node dist/gpu/issue-305.js --from=RECORD --svg=FILE`.
set -e
cd "$(dirname "$0")/.."
cards=$(node dist/cli/main.js devices --json | node -e 'process.stdin.on("data",d=>t+=d).on("end",()=>console.log(JSON.parse(t).devices.filter(d=>d.id.startsWith("cuda")).length));let t=""')
exec node dist/gpu/issue-305.js \
  "--json=${1:-bench/results}/issue-305-${cards}gpu.json" "--svg=${1:-docs}/issue-305.svg"

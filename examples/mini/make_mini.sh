#!/usr/bin/env bash
# Makes `mini`, the model that comes with sgdd, with the commands that made it:
#
#   bash examples/mini/make_mini.sh fiction.train.txt fiction.valid.txt tinystories.valid.txt mini-work
#
# One sentence per line in each file. Interrupted, the same command goes on where it stopped. What is to be shipped
# stands in mini-work/mini in the end: its content goes into sgdd_engine/mini/checkpoint.
set -euo pipefail
if [ $# -ne 4 ]; then
    sed -n '2,7p' "$0" >&2
    exit 2
fi
train=$1 fiction=$2 stories=$3 work=$4
here=$(dirname "$0")

sgdd prepare-data "$train" --config "$here/mini.toml" --out "$work/data"

stage() {
    local run=$1
    shift
    if [ -d "$run/checkpoints" ]; then set -- "$@" --resume; fi
    sgdd train "$work/data" --out "$run" --config "$here/mini.toml" "$@"
}
# From plain sentences; then also from drafts that are to be corrected.
stage "$work/first"
if [ ! -d "$work/first-exported" ]; then sgdd export "$work/first" "$work/first-exported"; fi
stage "$work/second" --config "$here/mini_feedback.toml" --set train.start_from="$work/first-exported"

# Half precision first: every figure of the card is measured on the weights that are shipped.
rm -rf "$work/exported" "$work/mini"
# How it samples is the result of --vary; examples/mini/README.md has the table.
sgdd export "$work/second" "$work/exported" \
    --set sample.steps=8 --set sample.position_rule=confidence:apart=1 --set sample.unmasking=linear \
    --set sample.null_every=3 --set sample.vocabulary=512 --set sample.kv_cache=true
score() { sgdd eval "$work/exported" --train-corpus "$work/data" --json "$@"; }
# The best guidance weight is found on other sentences than those scored, and recorded in the checkpoint.
score --data "$fiction" --find-cfg > "$work/fiction.json"
# How likely a sentence is close to its source, on further sentences, and recorded too. A model that is not trained, as
# in the test of this script, has nothing to tell apart.
if [ "${CALIBRATE:-yes}" = yes ]; then
    sgdd eval "$work/exported" --data "$fiction" --calibrate-score 1500 --json > "$work/confidence.json"
fi
score --data "$fiction" --cfg 2.0 > "$work/cfg2.json"
score --data "$fiction" --candidates 2 --refine 6 --shortlist 8 > "$work/both.json"
score --data "$stories" --cfg 1.5 > "$work/stories.json"
score --data "$fiction" --cfg 2.0 --set sample.guidance=plain > "$work/plain.json"
# What fewer encoder calls bring, and what the shortlists do.
few() { score --data "$fiction" --limit "${SGDD_EVAL__LIMIT:-200}" "$@"; }
few --refine 1 > "$work/calls-2.json"
few --candidates 2 --refine 2 > "$work/calls-4.json"
few --candidates 2 --refine 6 > "$work/calls-8.json"
few --candidates 2 --refine 6 --shortlist 1 > "$work/calls-8-unguessed.json"

python "$here/card.py" "$work/exported" --after "$work/first" \
    --calls "$work/calls-2.json" --calls "$work/calls-4.json" \
    --calls "$work/calls-8-unguessed.json" --calls "$work/calls-8.json" --calls "$work/both.json" \
    "Held-out novels, one shot=$work/fiction.json" \
    "Held-out novels, one shot, cfg 2=$work/cfg2.json" \
    "Held-out novels, best of 2 candidates and 6 rounds of refining, shortlists of 8=$work/both.json" \
    "Held-out novels, one shot, plain guidance=$work/plain.json" \
    "TinyStories, one shot=$work/stories.json" > "$work/card.md"
sgdd export "$work/exported" "$work/mini" --card "$work/card.md"

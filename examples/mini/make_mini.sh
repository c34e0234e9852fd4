#!/usr/bin/env bash
# Makes `mini`, the model that comes with sgdd, with the commands that made it:
#
#   bash examples/mini/make_mini.sh novels.txt fiction.valid.txt tinystories.valid.txt mini-work
#
# One sentence per line in each file. The fourth stage took half an hour on a CPU core, and the others a quarter of an
# hour on one GPU (H100, the last one H200); on two CPU cores all of it takes a week and a half.
# Interrupted, the same command goes on where it stopped. What is to be shipped stands in mini-work/mini in the end:
# its content goes into sgdd_engine/mini/checkpoint.
set -euo pipefail
if [ $# -ne 4 ]; then
    sed -n '2,9p' "$0" >&2
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
# From plain sentences; then also from drafts that are to be corrected; then from its own corrections as well.
export_once() { if [ ! -d "$1-exported" ]; then sgdd export "$1" "$1-exported"; fi; }
stage "$work/first"
export_once "$work/first"
feedback=(--config "$here/mini_feedback.toml")
stage "$work/second" "${feedback[@]}" --set train.start_from="$work/first-exported"
export_once "$work/second"
feedback+=(--config "$here/mini_feedback_again.toml")
stage "$work/third" "${feedback[@]}" --set train.start_from="$work/second-exported"
export_once "$work/third"
# The surrogate of the encoder, by which a search chooses what is encoded, learns on alone.
feedback+=(--config "$here/mini_surrogate.toml")
stage "$work/fourth" "${feedback[@]}" --set train.start_from="$work/third-exported"
export_once "$work/fourth"
# All of it goes on from plain sentences, in large batches; and then once more from drafts.
feedback+=(--config "$here/mini_longer.toml")
stage "$work/fifth" "${feedback[@]}" --set train.start_from="$work/fourth-exported"
export_once "$work/fifth"
feedback+=(--config "$here/mini_feedback_last.toml")
stage "$work/sixth" "${feedback[@]}" --set train.start_from="$work/fifth-exported"
export_once "$work/sixth"
# And from the mean of the weights after the last two, on plain sentences, until the learning rate is almost nothing.
if [ ! -d "$work/averaged" ]; then
    python "$here/average.py" "$work/fifth-exported" "$work/sixth-exported" "$work/averaged"
fi
feedback+=(--config "$here/mini_annealed.toml")
stage "$work/seventh" "${feedback[@]}" --set train.start_from="$work/averaged"

# Half precision first: every figure of the card is measured on the weights that are shipped.
rm -rf "$work/exported" "$work/mini"
# How it samples was found with --vary, on the model before.
sgdd export "$work/seventh" "$work/exported" \
    --set sample.steps=8 --set sample.position_rule=confidence:apart=1 --set sample.unmasking=linear \
    --set sample.null_every=3 --set sample.vocabulary=512 --set sample.kv_cache=true
score() { sgdd eval "$work/exported" --train-corpus "$work/data" --json "$@"; }
# The best guidance weight and the temperature of tokens are found on other sentences than those scored, and recorded.
score --data "$fiction" --find-cfg > "$work/fiction.json"
# How likely a sentence is close to its source, on further sentences, and recorded too. A model that is not trained, as
# in the test of this script, has nothing to tell apart.
if [ "${CALIBRATE:-yes}" = yes ]; then
    sgdd eval "$work/exported" --data "$fiction" --calibrate-score 1500 --json > "$work/confidence.json"
fi
score --data "$stories" --cfg 1.5 > "$work/stories.json"
score --data "$fiction" --cfg 2.0 --set sample.guidance=plain > "$work/plain.json"
# What encoder calls bring.
score --data "$fiction" --refine 1 --shortlist 1 > "$work/correction.json"
score --data "$fiction" --refine 1 > "$work/chosen.json"
few() { score --data "$fiction" --limit "${SGDD_EVAL__LIMIT:-$1}" "${@:2}"; }
few 1000 --search 8 > "$work/search-8.json"
few 60 --search 64 > "$work/search-64.json"
few 500 --search "${MOST_CALLS:-256}" > "$work/search-256.json"

python "$here/card.py" "$work/exported" --after "$work/first" --after "$work/second" --after "$work/third" \
    --after "$work/fourth" --after "$work/fifth" --after "$work/sixth" \
    --calls "$work/correction.json" --calls "$work/chosen.json" --calls "$work/search-8.json" \
    --calls "$work/search-64.json" --calls "$work/search-256.json" \
    "Held-out novels, one shot=$work/fiction.json" \
    "Held-out novels, one correction=$work/correction.json" \
    "Held-out novels, one correction chosen among four=$work/chosen.json" \
    "Held-out novels, a search with 8 encoder calls=$work/search-8.json" \
    "Held-out novels, one shot, plain guidance=$work/plain.json" \
    "TinyStories, one shot=$work/stories.json" > "$work/card.md"
sgdd export "$work/exported" "$work/mini" --card "$work/card.md"

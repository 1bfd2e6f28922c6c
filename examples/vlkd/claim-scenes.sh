#!/bin/sh
# VLKD's claim on the built-in world: a BART that never saw a picture captions and answers with no further training. Each
# of the three losses is left out in turn. Beside it the same with pictures shuffled, how near its encoder comes to the
# joint space (retrieval), and what was lost of text.
# Run it again after any interruption: what is done is not done again.
#
#   SEEDS, ARMS      default "0 1 2", "all no-ttdm no-itcl no-icti"
#   TRAIN, TEST      pictures; default 4000, 300
#   TEXTS            held-out scenes whose texts are scored; default 1000
#   MORE             more flags of `mmkd distill`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
ASSETS="../../mmkd_cli/assets"
BART="${BART:-$ASSETS/tiny-bart}"

mmkd prepare-data --source scenes --set "source.train=${TRAIN:-4000}" --set source.val=200 \
    --set "source.test=${TEST:-300}" --name world
mmkd cache-teacher --teacher "timm:local-dir:$ASSETS/tiny-image-teacher" --data world --name pictures
mmkd distill --config claim/joint-space.toml --data world --cache pictures --name joint-space ${MORE:-}
mmkd cache-teacher --teacher run:joint-space --data world --name joint
python shuffled_questions.py --data world --out "$ROOT/shuffled-questions.json"
python text_kept.py --model "$BART" --items "${TEXTS:-1000}" --out "$ROOT/text/before.json"

captions_scored() { # NAME FILE
    mmkd evaluate --bench coco-caption --predictions "$2" --data world --split test --name "$1-captions"
}

answers_scored() { # NAME RESULT
    mmkd evaluate --bench vqav2 --predictions "$2" --data world --split test --name "$1-answers"
}

taught() { # NAME [more]
    name="$1"; shift
    mmkd distill --config claim/vlkd.toml --data world --cache joint --set "student.weights=$BART" --name "$name" \
        ${MORE:-} "$@"
    writes="--model $name --data world --cache joint --split test --set generation.num_beams=3"
    mmkd generate --task caption $writes --set generation.max_new_tokens=40 --name "$name-written"
    python caption_baselines.py --data world --cache joint --split test \
        --shuffle "$ROOT/results/$name-written/captions.json" --out "$ROOT/shuffled/$name"
    captions_scored "$name" "$name-written"
    captions_scored "$name-shuffled" "$ROOT/shuffled/$name/shuffled.json"
    mmkd generate --task vqa $writes --name "$name-said"
    mmkd generate --task vqa $writes --questions "$ROOT/shuffled-questions.json" --name "$name-shuffled-said"
    answers_scored "$name" "$name-said"
    answers_scored "$name-shuffled" "$name-shuffled-said"
    mmkd evaluate --bench retrieval --model "$name" --data world --cache joint --split test --name "$name-retrieved"
    python text_kept.py --model "$ROOT/runs/$name/model" --items "${TEXTS:-1000}" \
        --out "$ROOT/text/$name.json"
}

python caption_baselines.py --data world --cache joint --split test --out "$ROOT/baselines"
for baseline in constant nearest consensus; do
    captions_scored $baseline "$ROOT/baselines/$baseline.json"
done
last=""
for seed in ${SEEDS:-0 1 2}; do
    for arm in ${ARMS:-all no-ttdm no-itcl no-icti}; do
        case "$arm" in
            all) taught "all-s$seed" --seed "$seed" & ;;
            *) taught "$arm-s$seed" --seed "$seed" --set "method.${arm#no-}_weight=0" & ;;
        esac
        [ -z "$last" ] || wait "$last" # two at a time
        last=$!
    done
done
wait "$last"
python claim_scenes_table.py

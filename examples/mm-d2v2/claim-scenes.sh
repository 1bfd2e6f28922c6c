#!/bin/sh
# The thesis's teacher ablation on the built-in world: S-SMKE in the small, taught by three models that learnt from
# pictures alone (self_supervised.py), and by none; each by mean squared error and by contrast with a bank. Retrieval on
# held-out pictures, half of which show combinations that training never has, and zero-shot classes of single objects.
# Run it again after any interruption: what is done is not done again.
#
#   SEEDS, TEACHERS  default "0 1 2", "beit2 d2v2 dino"
#   STEPS            of each teacher; default 800
#   TRAIN, TEST      pictures; default 8000, 1000
#   MORE             more flags of `mmkd distill`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
TEACHERS="${TEACHERS:-beit2 d2v2 dino}"

last=""
two() { # a command, two at a time
    "$@" &
    [ -z "$last" ] || wait "$last"
    last=$!
}

python ../clip-vil/small_bert.py --out "$ROOT/bert"
world="--source scenes --set source.plain=true --set source.questions=false"
mmkd prepare-data $world --set "source.train=${TRAIN:-8000}" --set source.val=0 --set "source.test=${TEST:-1000}" \
    --name world
mmkd prepare-data $world --set source.train=0 --set "source.val=${TEST:-1000}" --set source.test=0 \
    --set source.objects=1 --set source.label=colour-shape --name single

cached() { # TEACHER
    python self_supervised.py --teachers "$1" --steps "${STEPS:-800}" --out "$ROOT/teachers" \
        --work "$ROOT/teachers-work"
    mmkd cache-teacher --teacher "timm:local-dir:$ROOT/teachers/$1" --data world --name "$1"
}

taught() { # NAME SEED [more]: a student, then measured
    name="$1-s$2"
    train="--config claim/s-smke.toml --set student.text_weights=$ROOT/bert --data world --seed $2 --name $name"
    shift 2
    mmkd distill $train ${MORE:-} "$@"
    mmkd evaluate --bench retrieval --model "$name" --data world --split test --name "$name-retrieval"
    mmkd evaluate --bench zeroshot-classification --model "$name" --data single --split val \
        --set bench.template_file=claim/templates.txt --name "$name-classes"
}

for teacher in $TEACHERS; do
    two cached "$teacher"
done
wait "$last"
last=""
for seed in ${SEEDS:-0 1 2}; do
    two taught none "$seed" --set method.regression_weight=0
    for teacher in $TEACHERS; do
        two taught "$teacher-mse" "$seed" --cache "$teacher"
        two taught "$teacher-bank" "$seed" --cache "$teacher" --set method.target_loss=contrastive-target \
            --set method.target_bank=2048
    done
done
wait "$last"
python claim_scenes_table.py

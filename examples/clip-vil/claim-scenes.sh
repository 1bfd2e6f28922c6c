#!/bin/sh
# CLIP-ViL's claim on the built-in world: an encoder that captions taught (CLIP) against the same one that class labels
# taught, both frozen, under the same heads: questions (VQA), entailment (SNLI-VE), an agent that follows instructions
# (R2R, by navigation.sh), and CLIP-ViL_p's stream with and without its pre-training on captions.
# Run it again after any interruption: what is done is not done again.
#
#   ENCODERS         the shipped CLIP, and what encoders.py is told; default "tiny-clip shape colour-shape nothing"
#   STEPS            of the training of those; default 1000, as of the tiny CLIP
#   SEEDS            of what is trained on frozen encoders; default "0 1 2"
#   TASKS, MODELS    default "vqa snli-ve r2r", "head scratch pretrained"
#   TRAIN, TEST      pictures; default 4000, 512
#   MORE             more flags of `mmkd distill` and `mmkd finetune`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
ENCODERS="${ENCODERS:-tiny-clip shape colour-shape nothing}" TASKS="${TASKS:-vqa snli-ve r2r}"
MODELS="${MODELS:-head scratch pretrained}"

python small_bert.py --out "$ROOT/bert"
world="--source scenes --set source.plain=true --set source.train=${TRAIN:-4000} --set source.val=0"
held="--set source.test=${TEST:-512}"
mmkd prepare-data $world $held --name vqa
mmkd prepare-data $world $held --set source.hypotheses=true --name snli-ve
mmkd prepare-data $world --set source.test=0 --set source.questions=false --name captioned

answered() { # NAME ENCODER TASK SEED [more]: of finetune
    name="$1" data="$3" cache="$3-$2"
    case "$3" in vqa) bench=vqav2 ;; *) bench="$3" ;; esac
    train="--task $3 --data $data --cache $cache --seed $4 --name $name"
    shift 4
    mmkd finetune $train ${MORE:-} "$@"
    mmkd generate --task vqa --model "$name" --data "$data" --cache "$cache" --split test --name "$name-said"
    mmkd evaluate --bench "$bench" --predictions "$name-said" --data "$data" --split test --name "$name"
}

compared() { # ENCODER SEED
    encoder="$1" seed="$2"
    for model in $MODELS; do
        case "$model-$encoder" in
            head-*) of="--config claim/head.toml" ;;
            scratch-tiny-clip | scratch-colour-shape)
                of="--config claim/stream.toml --set student.weights=$ROOT/bert" ;;
            pretrained-tiny-clip | pretrained-colour-shape)
                of="--config claim/stream.toml --model $encoder-stream-s$seed"
                mmkd distill --config claim/pretraining.toml --set "student.weights=$ROOT/bert" --data captioned \
                    --cache "captioned-$encoder" --seed "$seed" --name "$encoder-stream-s$seed" ${MORE:-} ;;
            *) continue ;; # two encoders show what pre-training gains
        esac
        for task in $TASKS; do
            [ "$task" = r2r ] || answered "$encoder-$model-$task-s$seed" "$encoder" "$task" "$seed" $of
        done
    done
}

last=""
two() { # a command, two at a time
    "$@" &
    [ -z "$last" ] || wait "$last"
    last=$!
}

seen() { # FOLDER of an encoder: its cells of all pictures
    encoder="${1##*/}"
    [ -d "$1" ] || python encoders.py --told "$encoder" --steps "${STEPS:-1000}" --work "$ROOT/encoders-work" --out "$1"
    for data in vqa snli-ve captioned; do
        mmkd cache-teacher --teacher clip-grid --arch "local-dir:$1" --set teacher.grid.height=64 \
            --set teacher.grid.width=64 --data "$data" --name "$data-$encoder"
    done
}

folders=""
for encoder in $ENCODERS; do
    case "$encoder" in
        tiny-clip) folders="$folders ../../mmkd_cli/assets/tiny-clip" ;;
        *) folders="$folders $ROOT/encoders/$encoder" ;;
    esac
done
for folder in $folders; do
    two seen "$folder"
done
wait "$last"
last=""
for seed in ${SEEDS:-0 1 2}; do
    for encoder in $ENCODERS; do
        two compared "$encoder" "$seed"
    done
done
wait "$last"
case " $TASKS " in
    *" r2r "*) ENCODERS="$folders" SPLITS=val_unseen sh navigation.sh ;;
esac
python claim_scenes_table.py

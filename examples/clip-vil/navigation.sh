#!/bin/sh
# Navigation on the built-in houses: EnvDrop's agent on a frozen encoder's views, in houses that it never saw, beside agents
# that read no instruction. Run it again after any interruption: what is done is not done again.
#
#   SEEDS            default "0 1 2"
#   ENCODERS         folders in open_clip's layout; default the shipped tiny CLIP's
#   HOUSES, UNSEEN   of training and of val_unseen; default 40, 8
#   SPLITS           that are walked; default "val_seen val_unseen"
#   MORE             more flags of `mmkd finetune`
#   OMP_NUM_THREADS  default 1, with two runs side by side
set -eu
cd "$(dirname "$0")"
ROOT="${MMKD_ROOT:-mmkd-work}"
export MMKD_ROOT="$ROOT" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
WORLD="$ROOT/houses"

python houses.py --out "$WORLD" --houses "${HOUSES:-40}" --unseen "${UNSEEN:-8}"
mmkd prepare-data --source r2r --annotations "$WORLD" --connectivity "$WORLD/connectivity" --images "$WORLD/views" \
    --image-size 0 --name houses

scored() { # NAME TRAJECTORIES SPLIT
    mmkd evaluate --bench r2r --predictions "$2" --annotations "$WORLD/R2R_$3.json" \
        --connectivity "$WORLD/connectivity" --name "$1-$3"
}

python walking_agents.py --annotations "$WORLD/R2R_val_unseen.json" --connectivity "$WORLD/connectivity" \
    --out "$ROOT/agents"
for agent in stop random shortest-random shortest; do
    scored "$agent" "$ROOT/agents/$agent.json" val_unseen
done

walked() { # NAME CACHE [more]
    name="$1" cache="$2"; shift 2
    mmkd finetune --config navigation.toml --data houses --cache "$cache" --name "$name" ${MORE:-} "$@"
    for split in ${SPLITS:-val_seen val_unseen}; do
        mmkd generate --task r2r --model "$name" --cache "$cache" --split "$split" --name "$name-walks-$split"
        scored "$name" "$name-walks-$split" "$split"
    done
}

last=""
for folder in ${ENCODERS:-../../mmkd_cli/assets/tiny-clip}; do
    encoder="${folder##*/}"
    mmkd cache-teacher --teacher "open_clip:local-dir:$folder" --signals image_embedding --data houses \
        --name "views-$encoder"
    for seed in ${SEEDS:-0 1 2}; do
        walked "$encoder-s$seed" "views-$encoder" --seed "$seed" &
        [ -z "$last" ] || wait "$last" # two at a time
        last=$!
    done
done
wait "$last"
python navigation_table.py

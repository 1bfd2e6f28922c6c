# Sourced by claim.sh and ablations.sh: the tiny models, the plain world they are tuned and measured on, and how they are
# measured.
set -eu
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
ROOT="${MMKD_ROOT:-mmkd-work}"
SWAPS="$ROOT/swaps"
MODELS="${MODELS:-../../mmkd_cli/assets}"
CLIP="open_clip:local-dir:$MODELS/tiny-clip"
DIFFUSION="diffusers:$MODELS/tiny-diffusion"
DRAWS="${DRAWS:-20}"

python swaps.py "$SWAPS"
mmkd prepare-data --source scenes --set source.plain=true --set source.questions=false --set source.train=4000 \
    --set source.val=500 --set source.test=0 --name world
for label in shape colour; do
    mmkd prepare-data --source scenes --set source.plain=true --set source.questions=false --set source.train=0 \
        --set source.val=500 --set source.test=0 --set source.objects=1 --set "source.label=$label" --name "single-$label"
done
mmkd cache-teacher --teacher "$DIFFUSION" --data world --name world-said

tuned() { # NAME METHOD [more]: a CLIP tuned from the tiny one, then measured
    name="$1"; method="$2"; shift 2
    if [ "$method" = sds ]; then
        set -- --teacher "$DIFFUSION" --cache world-said --set method.projection_lr=3e-3 "$@"
    fi
    mmkd distill --config claim/arms.toml --method "$method" --student "$CLIP" --data world --name "$name" "$@"
    measured "$name" "$name"
}

measured() { # NAME MODEL: swaps, single objects, retrieval
    for set in seen held-out; do
        mmkd evaluate --bench winoground --model "$2" --annotations "$SWAPS/$set" --name "$1-$set"
    done
    for label in shape colour; do
        mmkd evaluate --bench zeroshot-classification --model "$2" --data "single-$label" --split val \
            --set "bench.template_file=claim/templates-$label.txt" --name "$1-$label"
    done
    mmkd evaluate --bench retrieval --model "$2" --data world --split val --name "$1-retrieval"
}

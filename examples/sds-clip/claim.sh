#!/bin/sh
# SDS-CLIP's claim on the built-in world: the tiny CLIP as it is, tuned by its contrastive loss alone, and tuned by that and
# score distillation from the tiny diffusion model. The arms have the same data, steps and trained parameters of CLIP.
# Run it again after any interruption: what is done is not done again.
#
#   SEEDS            default "0 1 2"
#   DRAWS            of the diffusion scorer, whose row is the premise; default 20
#   MODELS           folder of tiny-clip and tiny-diffusion; default: those that ship with mmkd (made by examples/tiny)
#   OMP_NUM_THREADS  default 1, with the two arms side by side
cd "$(dirname "$0")"
. ./models.sh

measured zero-shot "$CLIP"
for seed in ${SEEDS:-0 1 2}; do
    tuned "contrastive-s$seed" contrastive --seed "$seed" &
    one=$!
    tuned "sds-s$seed" sds --seed "$seed"
    wait $one
    python claim_table.py
done
for set in seen held-out; do
    mmkd evaluate --bench winoground --scorer diffusion --draws "$DRAWS" --model "$DIFFUSION" \
        --annotations "$SWAPS/small-$set" --name "diffusion-$set"
done
python claim_table.py --plot claim.svg

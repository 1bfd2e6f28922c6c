#!/bin/sh
# What of score distillation matters, on the built-in world: one key at a time is another than claim.sh's (seed 0).
# Run it again after any interruption: what is done is not done again.
cd "$(dirname "$0")"
. ./models.sh

ablation() { # NAME [--set ...]
    name="$1"; shift
    tuned "ablation-$name" sds --seed 0 "$@"
}

measured zero-shot "$CLIP"
tuned contrastive-s0 contrastive --seed 0
ablation full
ablation skip --set method.jacobian=skip
ablation input-not-noised --set method.noise_input=false
ablation mean --set method.reduction=mean
for lambda in 0.0003 0.003 0.01; do # full has the paper's 0.001
    ablation "lambda-$lambda" --set "method.lambda=$lambda"
done
ablation no-warm-up --set method.projection_warmup_steps=0
ablation latent-warm-up --set method.projection_warmup=latents
ablation normalized --set method.normalize=true
python claim_table.py --ablations

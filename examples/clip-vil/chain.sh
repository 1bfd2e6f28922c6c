#!/bin/sh
# CLIP-ViL at full size: CLIP's cells under Pythia and MCAN (VQA v2) and under the captioner of 6+6 layers (COCO), its
# pooled views under the agent of Room-to-Room, and CLIP-ViL_p end to end: two stages of pre-training, then VQA v2, GQA
# and SNLI-VE.
# Run it again after any interruption: what is done is not done again. CONFIG names the CLIP (rn50 rn50x4).
set -eu
cd "$(dirname "$0")"
CONFIG="${CONFIG:-rn50x4}"
: "${COCO:?folder with train2014/, val2014/ and dataset_coco.json (the Karpathy split)}"
: "${VQAV2:?folder with the official questions and annotations of VQA v2}"
: "${GQA:?folder with train_balanced_questions.json, val_balanced_questions.json, and the pictures in images/}"
: "${SNLI_VE:?folder with snli_ve_train.jsonl, _dev, _test, and the photos of Flickr30k in images/}"
: "${R2R:?folder with R2R_train.json, R2R_val_seen.json, R2R_val_unseen.json, connectivity/ and views.tsv}"
: "${BERT:=google-bert/bert-base-uncased}" # a folder, or a hub id
: "${CLIP_WEIGHTS:=openai}"                # a tag, or a file of them

case "$CONFIG" in
    rn50) arch=RN50-quickgelu ;;
    rn50x4) arch=RN50x4-quickgelu ;;
    *)
        echo "CONFIG=$CONFIG is none of rn50 rn50x4" >&2
        exit 2 ;;
esac
clip="--teacher clip-grid --arch $arch --weights $CLIP_WEIGHTS"
trained="--teacher clip-grid --set teacher.arch=$arch --set teacher.weights=$CLIP_WEIGHTS"
padded="--set teacher.grid.resize=pad --set teacher.grid.height=384 --set teacher.grid.width=640"

mmkd prepare-data --source coco --images "$COCO" --annotations "$COCO/dataset_coco.json" \
    --train-splits train,restval --image-size 0 --name coco --workers 8
mmkd prepare-data --source vqav2 --images "$COCO" --questions "$VQAV2" --annotations "$VQAV2" --image-size 0 \
    --name vqav2 --workers 8
mmkd prepare-data --source gqa --images "$GQA/images" --annotations "$GQA" --image-size 0 --name gqa --workers 8
mmkd prepare-data --source snli-ve --images "$SNLI_VE/images" --annotations "$SNLI_VE" --image-size 0 --name snli-ve \
    --workers 8
mmkd prepare-data --source r2r --annotations "$R2R" --connectivity "$R2R/connectivity" --name r2r

# CLIP-ViL: frozen cells of pictures warped to 600 x 1000 (VQA) and 448 x 448 (captions)
mmkd cache-teacher $clip --set teacher.grid.resize=warp --set teacher.grid.height=600 --set teacher.grid.width=1000 \
    --data vqav2 --name "vqav2-$CONFIG" --workers 8
for head in pythia mcan; do
    mmkd finetune --task vqa --preset "vqa/$head" --data vqav2 --cache "vqav2-$CONFIG" --name "$head-$CONFIG" --workers 8
    mmkd generate --task vqa --model "$head-$CONFIG" --data vqav2 --cache "vqav2-$CONFIG" --split val \
        --name "$head-$CONFIG-said"
    mmkd evaluate --bench vqav2 --predictions "$head-$CONFIG-said" --split val --name "$head-$CONFIG"
done

mmkd cache-teacher $clip --set teacher.grid.resize=warp --set teacher.grid.height=448 --set teacher.grid.width=448 \
    --set teacher.grid.interpolation=bicubic --data coco --name "coco-$CONFIG" --workers 8
mmkd finetune --task caption --preset caption/cross-entropy --data coco --cache "coco-$CONFIG" \
    --name "cross-entropy-$CONFIG" --workers 8
mmkd finetune --task caption --preset caption/self-critical --model "cross-entropy-$CONFIG" --data coco \
    --cache "coco-$CONFIG" --name "self-critical-$CONFIG" --workers 8
for run in "cross-entropy-$CONFIG" "self-critical-$CONFIG"; do
    mmkd generate --task caption --model "$run" --data coco --cache "coco-$CONFIG" --split test --beams 5 --name "$run-written"
    mmkd evaluate --bench coco-caption --predictions "$run-written" --split test --name "$run"
done

# the agent of Room-to-Room, its speaker, and the agent that the speaker teaches
mmkd cache-teacher --teacher precomputed --set "teacher.features=$R2R/views.tsv" --set teacher.table=viewpoints --data r2r \
    --name views
mmkd finetune --task r2r --data r2r --cache views --set train.keep=max:val/val_unseen/success --name agent
mmkd finetune --task r2r-speaker --data r2r --cache views --set train.keep=min:val/val_unseen/loss --name speaker
mmkd finetune --task r2r --preset r2r/back-translation --model agent --data r2r --cache views \
    --set task.speaker=speaker --set train.keep=max:val/val_unseen/success --name agent-bt
for run in agent agent-bt; do
    mmkd generate --task r2r --model "$run" --data r2r --cache views --split val_unseen --name "$run-walks"
    mmkd evaluate --bench r2r --predictions "$run-walks" --annotations "$R2R/R2R_val_unseen.json" \
        --connectivity "$R2R/connectivity" --name "$run"
done

# CLIP-ViL_p, end to end: no cache
first="first-$CONFIG" second="second-$CONFIG"
mmkd distill --method vlp --preset "vlp/$CONFIG-first" --set "student.weights=$BERT" --set "teacher.weights=$CLIP_WEIGHTS" \
    --data coco --name "$first" --workers 8
mmkd distill --method vlp --preset "vlp/$CONFIG-second" --set "student.start=$first" \
    --set "teacher.weights=$CLIP_WEIGHTS" --data coco --data vqav2 --data gqa --set mix=round_robin --name "$second" \
    --workers 8
for data in vqav2 gqa snli-ve; do
    case "$data" in vqav2) task=vqa ;; *) task="$data" ;; esac
    mmkd finetune --task "$task" --preset "$task/vlp" --model "$second" $trained $padded --data "$data" \
        --name "$second-$data" --workers 8
    mmkd generate --task vqa --model "$second-$data" --data "$data" --split val --name "$second-$data-said"
    mmkd evaluate --bench "$data" --predictions "$second-$data-said" --split val --name "$second-$data-val"
done

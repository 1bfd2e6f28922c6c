"""A small CLIP in open_clip's layout: an EfficientNet-lite0 with ImageNet's weights, and a text tower of random ones.

    python small_clip.py --weights model.safetensors --out FOLDER

The text tower has CLIP's tokenizer and layout, two layers, 192 wide; a random linear map takes the CNN's pooled
features to the joint space. Nothing of it knows both pictures and texts before it is trained. Without --weights the CNN
is random, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file, save_file

WIDTH = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="timm's tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96, help="of its pictures (default 96)")
    parser.add_argument("--layers", type=int, default=2, help="of its text tower (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (arguments.out / "open_clip_config.json").is_file():
        print(f"{arguments.out} is there")
        return
    torch.manual_seed(arguments.seed)
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {"timm_model_name": "tf_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "",
                       "timm_proj": "linear", "image_size": arguments.size},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": WIDTH, "heads": 4,
                     "layers": arguments.layers},
    }  # fmt: skip
    model = open_clip.model.CLIP(**config)
    if arguments.weights is not None:
        trunk = {name: value.float() for name, value in load_file(arguments.weights).items()}
        kept = {name: value for name, value in trunk.items() if not name.startswith("classifier.")}
        model.visual.trunk.load_state_dict(kept)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), arguments.out / "open_clip_model.safetensors")
    # timm's numbers of these weights: ImageNet's mean and deviation are 0.5
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (arguments.out / "open_clip_config.json").write_text(json.dumps(described, indent=1))
    total = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": total}))


if __name__ == "__main__":
    main()

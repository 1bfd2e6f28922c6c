"""Models in transformers' layout: folder or hub id, opened with every weight accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.pictures import Transform

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as preprocessor_config.json has them."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt",
                   "special_tokens_map.json", "added_tokens.json", "spiece.model", "tokenizer.model",
                   "sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "spm_char.model")  # fmt: skip
"""All that transformers' tokenizers read, of SentencePiece's (T5, Llama, XLM-R, ...) too."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: name a folder that transformers wrote") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not an object: name a folder that transformers wrote"
        )
    return content


def weight_files(folder: Path) -> list[Path]:
    """safetensors where there are any, else the older .bin."""
    for pattern in WEIGHTS:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise UserError(f"{folder} holds no weights (model.safetensors): put them there")


def folder_identity(folder: Path, memory: Path | None, *, tokenizer: bool) -> dict[str, str]:
    """SHA-256 of configuration and weights, and of the tokenizer's files."""
    files = [folder / "config.json", *weight_files(folder)]
    if tokenizer:
        files += [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return {file.name: sha256_file(file, memory) for file in files}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars of transformers on stderr; its warnings stay."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_pretrained(model_class: Any, folder: Path, *, new_head: bool = False, **options: Any) -> Any:
    """`model_class.from_pretrained` with nothing missing: transformers would fill it with random numbers.

    new_head: what lies outside the base model (and its pooler) may be missing, or of another shape, and is made anew.
    options: keyword arguments of the model's own constructor.
    """
    if new_head:
        options["ignore_mismatched_sizes"] = True
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype="float32", **options
            )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder} does not load as {model_class.__name__}: {first}") from None
    missing = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if new_head:
        inner = f"{model.base_model_prefix}."
        missing = [name for name in missing if name.startswith(inner) and "pooler" not in name]
    if missing:
        raise UserError(
            f"{folder} does not fit {model_class.__name__}: {len(missing)} weights missing, the first {missing[0]!r}: "
            "name a folder of that model"
        )
    return model


def load_text_encoder(folder: Path, config: Any) -> Any:
    """A text model without its head, with all its weights, float32; a pooler that the file lacks stays random."""
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, dtype="float32"
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder} has no weights that can be read ({str(error).splitlines()[0]}): name a whole folder"
        ) from None
    if missing := sorted(name for name in report["missing_keys"] if "pooler." not in name):
        raise UserError(
            f"{folder} lacks {len(missing)} weights, the first {missing[0]!r}: name a folder of a text encoder"
        )
    return model


def dropout_options(config: Any, value: float | None) -> dict[str, float]:
    """Keyword arguments that set every dropout of a model's configuration, by whatever name; none where value is None.

    Whole layers that are left out (BART's layerdrop) are none of them.
    """
    if value is None:
        return {}
    names = [name for name in config.to_dict() if "dropout" in name or name.endswith("pdrop")]
    return dict.fromkeys(names, value)


def open_config(folder: Path) -> Any:
    """The folder's configuration."""
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is no model of transformers ({str(error).splitlines()[0]}): name another folder"
        ) from None


def open_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder} holds no tokenizer that loads: {first}: put tokenizer.json there") from None


def picture_transform(folder: Path, image_size: int) -> Transform:
    """What preprocessor_config.json says; without one, CLIP's: short side and centre crop to image_size.

    Where a centre crop's margin is an odd number of pixels it lies one pixel further on than transformers puts it (and
    where open_clip and torchvision do).
    """
    if not (folder / "preprocessor_config.json").is_file():
        return Transform((image_size, image_size), "shortest", image_size, "bicubic", OPENAI_MEAN, OPENAI_STD)
    config = read_json(folder / "preprocessor_config.json")
    size, crop = config.get("size", image_size), config.get("crop_size", image_size)
    resize = size if isinstance(size, int) else size.get("shortest_edge", size.get("height"))
    squash = isinstance(size, dict) and "height" in size
    if squash and size["height"] != size.get("width"):
        raise UserError(f"{folder}/preprocessor_config.json resizes to {size}: only squares are supported")
    cropped = resize
    if config.get("do_center_crop", False):
        cropped = crop if isinstance(crop, int) else crop["height"]
    elif not squash and "shortest_edge" in (size if isinstance(size, dict) else {}):
        cropped = image_size
    normal = config.get("do_normalize", True)
    return Transform(
        size=(cropped, cropped),
        resize="squash" if squash else "shortest",
        resize_size=resize,
        interpolation=RESAMPLING.get(config.get("resample", 3), "bicubic"),
        mean=tuple(config.get("image_mean", OPENAI_MEAN)) if normal else (0.0, 0.0, 0.0),
        std=tuple(config.get("image_std", OPENAI_STD)) if normal else (1.0, 1.0, 1.0),
    )

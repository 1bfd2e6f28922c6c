"""Files that a model hub keeps: those on this machine first, and without asking anybody."""

from __future__ import annotations

import os
from pathlib import Path

from mmkd_cli.core.errors import UserError

NAME_THE_FILE = "get that file, put it anywhere, and name it by --weights FILE"
NAME_THE_FOLDER = "get the model's files, put them into a folder, and name it by --weights FOLDER"
_out_of_reach: set[str] = set()
"""Models that were asked for in vain: the hub's client waits long for an answer, and a command asks more than once."""


def hub_file(repository: str, filenames: tuple[str, ...], advice: str = NAME_THE_FILE) -> Path:
    """The first of `filenames` that `repository` (`ID` or `ID@REVISION`) has: from the hub's cache, else downloaded."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    identifier, _, revision = repository.partition("@")
    for filename in filenames:
        found = try_to_load_from_cache(identifier, filename, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    reason = "the hub is out of reach" if identifier in _out_of_reach else "HF_HUB_OFFLINE is set"
    offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
    if not offline and identifier not in _out_of_reach:
        for filename in filenames:
            try:
                return Path(hf_hub_download(identifier, filename, revision=revision or None))
            except LocalEntryNotFoundError:
                reason = "the hub is out of reach"
                _out_of_reach.add(identifier)
                break
            except EntryNotFoundError:
                reason = "the hub has no such file"
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                break
    raise UserError(f"{filenames[0]} of {identifier} is not on this machine ({reason}): {advice}")


def hub_folder(name: str) -> Path:
    """A folder with config.json: one on this machine, or the hub's copy of the model `name` (`ID` or `ID@REVISION`)."""
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{name} holds no config.json: name a folder that transformers wrote")
    config = hub_file(name, ("config.json",), NAME_THE_FOLDER)
    identifier, _, revision = name.partition("@")
    _complete_snapshot(identifier, revision or None, config.parent)
    return config.parent


def _complete_snapshot(identifier: str, revision: str | None, folder: Path) -> None:
    """Fetch weights and tokenizer beside config.json, unless weights are there."""
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    reason = "HF_HUB_OFFLINE is set"
    try:
        snapshot_download(
            identifier, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model", "*.bpe"]
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder} holds the config of {identifier} and no weights ({reason}): put them there")

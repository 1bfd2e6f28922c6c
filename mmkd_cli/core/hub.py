"""Files that a model hub keeps: those on this machine first, and without asking anybody."""

from __future__ import annotations

import os
from pathlib import Path

from mmkd_cli.core.errors import UserError


def hub_file(repository: str, filenames: tuple[str, ...]) -> Path:
    """The first of `filenames` that `repository` (`ID` or `ID@REVISION`) has: from the hub's cache, else downloaded."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    identifier, _, revision = repository.partition("@")
    for filename in filenames:
        found = try_to_load_from_cache(identifier, filename, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    reason = "HF_HUB_OFFLINE is set"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() not in ("1", "ON", "YES", "TRUE"):
        for filename in filenames:
            try:
                return Path(hf_hub_download(identifier, filename, revision=revision or None))
            except LocalEntryNotFoundError:
                reason = "the hub is out of reach"
                break
            except EntryNotFoundError:
                reason = "the hub has no such file"
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                break
    raise UserError(
        f"{filenames[0]} of {identifier} is not on this machine ({reason}): get that file, put it anywhere, "
        f"and name it by --weights FILE"
    )

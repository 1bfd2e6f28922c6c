"""Reading of files that are pickles inside (.pt, .pth, .bin), without running what they name.

Only torch's restricted unpickler reads them: it makes tensors and plain containers, and calls nothing else. Research
checkpoints keep their training configuration beside the weights, as objects of their own packages; these can be read
as inert stand-ins, which hold nothing and do nothing.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError

CONFIGURATION_PACKAGES = frozenset(
    {"argparse", "collections", "data2vec", "enum", "examples", "fairseq", "numpy", "omegaconf", "pathlib", "typing"}
)
"""Packages whose objects training configurations are made of; their objects become stand-ins where that is allowed."""
CONFIGURATION_TYPES = frozenset(
    f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "int", "list", "object", "set", "str", "tuple")
)
_MAX_STAND_INS = 1000


class StandIn:
    """What is left of an object of an unknown class: accepts any arguments and any state, and forgets them."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_torch(path: Path, *, stand_ins: bool = False, device: str = "cpu") -> Any:
    """What torch.save wrote, of tensors and plain containers only.

    stand_ins: whether objects of CONFIGURATION_PACKAGES are read as StandIn. device: "meta" reads shapes alone.
    Raises UserError that names what it refuses, or says that the file is no such file.
    """
    import torch

    path = Path(path)
    made: dict[str, type] = {}
    for _ in range(_MAX_STAND_INS):
        allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(made[name], name) for name in made]
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
        except FileNotFoundError:
            raise UserError(f"weights {path} are not there") from None
        except pickle.UnpicklingError as error:
            name = _refused_name(str(error))
            if name is None:
                raise UserError(f"{path} is no file of weights, or is damaged: {_first_line(error)}") from None
            if not stand_ins or not _stands_for_configuration(name) or name in made:
                raise UserError(
                    f"{path} names {name}, which is not run: keep only its weights (a dictionary of tensors)"
                ) from None
            made[name] = type("StandIn", (StandIn,), {})
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no file of weights, or is damaged: {_first_line(error)}") from None
    raise UserError(f"{path} names more than {_MAX_STAND_INS} classes: keep only its weights (a dictionary of tensors)")


def _refused_name(message: str) -> str | None:
    for pattern in (r"GLOBAL ([\w.]+) was not an allowed", r"unsupported GLOBAL ([\w.]+)"):
        found = re.search(pattern, message)
        if found:
            name = found.group(1)
            return name if "." in name else f"builtins.{name}"  # torch leaves that module's name out
    return None


def _stands_for_configuration(name: str) -> bool:
    return name.split(".")[0] in CONFIGURATION_PACKAGES or name in CONFIGURATION_TYPES


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""The user's own functions, `package.module:function`: imported, called, and every fault told as what it is."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any

from .errors import TrainError

_WHERE = "the folder that `sync: {source: …}` names travels to every host and is searched first"


class UserFunction:
    """One function of the user's. `key` says where in the spec it is named; `reason` is a FAILURE record's."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        self.name = name
        self.key = key
        self.reason = reason

    def call(self, returns: str, offered: Mapping[str, Any]) -> Any:
        """What the function returns. It is given those of the `offered` arguments that its signature names.

        `returns` says for messages what is expected of it. Raises TrainError; what TensorFlow raises passes through
        only as the cause of one.
        """
        function = self._find(returns)
        given = self.arguments(function, offered)
        try:
            return function(**given)
        except (Exception, SystemExit) as error:
            raise self.fault(f"it raised {told(error)}", "mend the function") from error

    def fault(self, found: str, hint: str) -> TrainError:
        """The TrainError that says what is wrong with this function."""
        return TrainError(self.reason, f"{self.key}: {self.name}: {found}", hint=hint)

    def arguments(self, function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the offered arguments that a function takes. Raises TrainError if it needs others."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # made in C: it has none that could be read
            return {}
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
        foreign = [name for name in needed if name not in offered]
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
        if foreign or positional:
            raise self.fault(
                f"expected a function without required arguments (it may take {', '.join(offered)}), "
                f"found one that needs {', '.join(foreign or positional)}",
                "give those arguments defaults",
            )
        return {p.name: offered[p.name] for p in parameters if p.name in offered and p.kind is not p.POSITIONAL_ONLY}

    def _find(self, returns: str) -> Callable[..., Any]:
        module_name, _, attribute = self.name.partition(":")
        module = self._import(module_name)
        place = shown_file(getattr(module, "__file__", None) or "built into Python")
        function = getattr(module, attribute, None)
        if function is None:
            names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise self.fault(
                f"expected a function `{attribute}` in {place}, found {', '.join(names[:8]) or 'none'}",
                f"define `{attribute}` there; it returns {returns}. {_WHERE}",
            )
        if not callable(function):
            raise self.fault(
                f"expected a function `{attribute}` in {place}, found {type(function).__name__}",
                f"name a function that returns {returns}",
            )
        return function  # type: ignore[no-any-return]

    def _import(self, name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise self.fault(
                    f"expected a module `{name}`, found no `{error.name}` in {os.getcwd()} nor among the packages "
                    "of this Python",
                    _WHERE,
                ) from error
            raise self.fault(
                f"importing `{name}` failed: {told(error)}", "install that module for the workers' Python"
            ) from error
        except (Exception, SystemExit) as error:
            raise self.fault(f"importing `{name}` failed: {told(error)}", "mend the module") from error


def told(error: BaseException) -> str:
    """An exception in a line: its type, the first line of what it says, and where in the user's files it came up."""
    text = str(error).strip().splitlines()
    first = f": {text[0][:500]}" if text else ""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} at {shown_file(error.filename)}:{error.lineno}"
    return f"{type(error).__name__}{first}{_place(error.__traceback__)}"


def shown_file(path: str) -> str:
    """A file as the user knows it: relative to the user's folder, if it lies there."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _place(trace: TracebackType | None) -> str:
    """The innermost line in the user's folder; if there is none, the innermost line outside of this package."""
    frames = [f for f in traceback.extract_tb(trace) if os.path.dirname(__file__) not in f.filename]
    frames = [f for f in frames if not f.filename.startswith("<")]
    mine = [f for f in frames if not os.path.relpath(f.filename).startswith(os.pardir)]
    chosen = (mine or frames)[-1:]
    return "".join(f" at {shown_file(f.filename)}:{f.lineno}" for f in chosen)

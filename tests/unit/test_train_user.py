"""The user's functions and what they return, without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.train import userdata
from worker.train.errors import TrainError
from worker.train.userfunction import UserFunction

X, Y = np.zeros((3, 2)), np.array([0, 1, 2])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder: working directory and first on the path."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def function(name: str = "mod:make") -> UserFunction:
    return UserFunction(name, "train.model", "environment")


@pytest.mark.parametrize(
    ("source", "offered"),
    [
        ("def make(): return 1", {}),
        ("def make(classes=None): return classes", {"classes": 1, "input_shape": ()}),
        ("def make(*, classes): return classes", {"classes": 1}),
        ("def make(input_shape, **more): return len(input_shape) + len(more)", {"input_shape": (5,), "classes": 1}),
        ("class make:\n def __new__(cls): return 1", {}),
    ],
)
def test_a_function_is_given_what_its_signature_names(folder: Path, source: str, offered: dict[str, Any]) -> None:
    (folder / "mod.py").write_text(source)
    assert function().call("a model", offered) == 1


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("", "absent:make", "expected a module `absent`, found no `absent` in "),
        ("", "absent.sub:make", "expected a module `absent.sub`, found no `absent` in "),
        ("import absent2", "mod:make", "importing `mod` failed: ModuleNotFoundError: No module named 'absent2' at mod.py:1"),
        ("\n1 / 0", "mod:make", "importing `mod` failed: ZeroDivisionError: division by zero at mod.py:2"),
        ("def make(:", "mod:make", "importing `mod` failed: SyntaxError: "),
        ("raise SystemExit(3)", "mod:make", "importing `mod` failed: SystemExit: 3 at mod.py:1"),
        ("def build(): pass", "mod:make", "expected a function `make` in mod.py, found build"),
        ("make = 3", "mod:make", "expected a function `make` in mod.py, found int"),
        ("def make(path): pass", "mod:make", "found one that needs path"),
        ("def make(x, /): pass", "mod:make", "found one that needs x"),
        ("def f():\n return [][1]\ndef make():\n return f()", "mod:make", "it raised IndexError: list index out of range at mod.py:2"),
        ("import json\ndef make():\n json.loads('{')", "mod:make", "at mod.py:3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_told(folder: Path, source: str, name: str, message: str) -> None:
    (folder / "mod.py").write_text(source)
    with pytest.raises(TrainError) as caught:
        function(name).call("a model", {"classes": 10})
    assert caught.value.message.startswith(f"train.model: {name}: ")
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.reason == "environment"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        (X, Y, X, Y),
        [X.tolist(), Y.tolist(), X, Y],
        ((X, Y), (X, Y)),
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "more": 1},
    ],
)
def test_arrays_come_as_a_tuple_pairs_or_a_dict(value: Any) -> None:
    data: Any = userdata.arrays(function(), value)
    assert (data.x_train.dtype, data.y_train.dtype, data.classes) == (np.float32, np.int32, 3)


@pytest.mark.parametrize(
    ("x", "y", "dtypes", "classes"),
    [
        (np.zeros((3, 4, 4), np.uint8), Y.astype(np.uint8), (np.uint8, np.int32), 3),
        (np.zeros((3, 5), np.int64), Y[:, None], (np.int32, np.int32), 3),
        (np.zeros((3, 5), np.float16), Y / 2, (np.float32, np.float32), None),
        (np.zeros((3, 5), bool), np.array([-1, 0, 1]), (np.int32, np.int32), None),
        (np.zeros(3), np.zeros((3, 7)), (np.float32, np.float32), None),
    ],
)
def test_numbers_of_any_kind_are_held_in_32_bits_and_bytes_as_they_are(
    x: Any, y: Any, dtypes: tuple[Any, Any], classes: int | None
) -> None:
    data = userdata.arrays(function(), (x, y, x, y))
    assert (data.x_test.dtype, data.y_test.dtype) == dtypes
    assert data.classes == classes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "it returned NoneType"),
        ((X, Y, X), "it returned tuple of 3"),
        ({"x_train": X, "y_train": Y}, "without x_test, y_test"),
        ((X, Y[:2], X, Y), "x_train holds 3 examples and y_train holds 2"),
        ((X, Y, X[:, :1], Y), "x_train has examples of shape [2] and float32, x_test of shape [1]"),
        ((X[:0], Y[:0], X, Y), "x_train: expected at least one example"),
        ((np.array(["a", "b", "c"]), Y, X, Y), "x_train: expected numbers, found <U1"),
        ((np.array([{}, {}, {}]), Y, X, Y), "x_train: expected numbers, found Python objects"),
        (([[1], [1, 2]], Y, X, Y), "x_train: expected an array"),
        ((X, Y * 2**40, X, Y), "y_train: expected whole numbers of 32 bits"),
    ],
)
def test_what_is_wrong_with_arrays_is_told(value: Any, message: str) -> None:
    with pytest.raises(TrainError) as caught:
        userdata.arrays(UserFunction("mod:load", "train.dataset", "data"), value)
    assert message in caught.value.message
    assert caught.value.message.startswith("train.dataset: mod:load: ")
    assert caught.value.reason == "data"

"""Run by the workers' own Python, whichever it is: prints its version and those of what matters in one line of JSON.

Nothing that it names is imported. Any Python 3 can run this, so that one that is too old can say so.
"""

import sys

MARK = "launcher-packages "
_TENSORFLOW = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow")
_OTHERS = ("keras", "tf-keras", "numpy")
_CUDA = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu13")


def main():
    # type: () -> None
    del sys.path[0]  # this folder: what is called like a module of somebody's is not to be found in it
    import json

    found = {"version": "%d.%d.%d" % sys.version_info[:3], "folders": [p for p in sys.path if p]}  # type: dict[str, object]
    try:
        found.update(installed())
    except Exception as error:
        found["trouble"] = "%s: %s" % (type(error).__name__, error)
    print("\n" + MARK + json.dumps(found))


def installed():
    # type: () -> dict[str, object]
    import contextlib
    import importlib.util
    from importlib import metadata

    versions = {}
    for name in _TENSORFLOW + _OTHERS + _CUDA:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = str(metadata.version(name))
    spec = importlib.util.find_spec("tensorflow")
    there = spec is not None and spec.origin is not None
    named = [name for name in _TENSORFLOW if name in versions]
    return {
        "packages": versions,
        "tensorflow": (versions[named[0]] if named else "unknown") if there else "",
        "distribution": named[0] if named and there else "",
        "keras": versions.get("keras", "unknown") if importlib.util.find_spec("keras") else "",
        "cuda": built_for(spec.origin) if spec is not None and spec.origin else "",
    }


def built_for(origin):
    # type: (str) -> str
    """The version of CUDA that TensorFlow was built for, from the file in which its build says so; empty: none."""
    import os
    import re

    path = os.path.join(os.path.dirname(origin), "python", "platform", "build_info.py")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"""["']cuda_version["']\s*:\s*["']([0-9.]+)["']""", file.read(1 << 16))
    except OSError:
        return ""
    return found.group(1) if found else ""


if __name__ == "__main__":
    main()

"""`python <this folder> VERB`: runs the package from wherever its folder lies, under a private name.

A staged copy of this folder is called by its hash, and a user's program may have a `worker.py`, a `train/` or a
`json.py` of its own. So nothing of ours is ever found through `sys.path`: the package is loaded from this very folder
as `_launcher_worker`, the folder that Python put on the path for us is taken off it, and the standard library comes
before whatever PYTHONPATH names. Python 3.8 and later.
"""

import os
import sys

PRIVATE_NAME = "_launcher_worker"


def clean_path():
    # type: () -> None
    """Before any further import: the standard library first, the rest in its order, this folder not at all."""
    here = os.path.dirname(os.path.abspath(__file__))
    library = os.path.dirname(os.path.abspath(os.__file__))
    dynamic = os.path.join(library, "lib-dynload")
    entries = [p for p in sys.path if p and os.path.abspath(p) != here]
    ours = [p for p in entries if os.path.abspath(p) in (library, dynamic) or is_library_zip(p, library)]
    sys.path[:] = ours + [p for p in entries if p not in ours]


def is_library_zip(path, library):
    # type: (str, str) -> bool
    name = "python%d%d.zip" % sys.version_info[:2]
    return os.path.abspath(path) == os.path.join(os.path.dirname(library), name)


def load_package():
    # type: () -> None
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        PRIVATE_NAME, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PRIVATE_NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    if sys.version_info < (3, 8):
        sys.exit("python3 is %s here, and 3.8 or later is needed" % sys.version.split()[0])
    clean_path()
    load_package()
    import importlib

    verbs = importlib.import_module(PRIVATE_NAME + ".verbs")
    sys.exit(verbs.main(sys.argv[1:]))

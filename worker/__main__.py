"""`python <this folder> VERB`: runs the package from wherever its folder lies, under a private name.

A staged copy of this folder is called by its hash, and a user's program may have a `worker.py`, a `train/` or a
`json.py` of its own. So nothing of ours is ever found through `sys.path`: the package is loaded from this very folder
as `_launcher_worker`, and the folder that Python put on the path for us is taken off it. Python 3.8 and later.
"""

import importlib.util
import os
import sys

PRIVATE_NAME = "_launcher_worker"


def load_package():
    # type: () -> None
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != here]
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
    load_package()
    verbs = importlib.import_module(PRIVATE_NAME + ".verbs")
    sys.exit(verbs.main(sys.argv[1:]))

"""Why a host did not let us in, in words for a person. What came from the host is cut and cleaned."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.errors import NotFitError

_NOT_FOUND = ("not found", "no such file", "unknown command", "cannot find", "does not exist")


def refused(host: str, about: Mapping[str, str]) -> NotFitError:
    """What the host's side of the door said no for (see worker/door.py)."""
    path = clean(about.get("path", "?"))
    why = clean(about.get("why", ""))
    reasons = {
        "old": (
            f"its python3 ({path}) is {clean(about.get('version', '?'))}, and 3.8 or later is needed",
            "install a newer Python there and put it before the old one in the PATH of non-interactive logins: "
            f"`ssh {host} python3 --version` must show it",
        ),
        "relative": (f"workdir {path} is not a whole path", "let `workdir` begin with `/`, `~/` or `~USER/`"),
        "home": (f"there is no home folder for workdir {path}", "write `workdir` as a whole path"),
        "full": (f"{path} cannot be written: {why}", "free some space there (`launcher clean`), or set `workdir`"),
        "folder": (f"{path} cannot be used as a folder: {why}", "set `workdir` to a folder that you may write to"),
        "nofolder": (f"{path} is not a folder, and is to be one", "move it away, or set another `workdir`"),
        "owner": (
            f"{path} belongs to another user (uid {clean(about.get('uid', '?'))})",
            "set `workdir` to a folder of your own",
        ),
        "open": (
            f"others may change what is in {path} (mode {clean(about.get('mode', '?'))})",
            f"`chmod go-w {path}` on {host}, or set `workdir` to a folder of your own",
        ),
        "zlib": (f"its python3 ({path}) was built without zlib", "install a whole Python there"),
        "hashes": (f"its python3 ({path}) was built without hashlib", "install a whole Python there"),
        "busy": (f"{path} is changed by somebody else at this moment", "see who writes to that folder"),
        "damaged": (f"what arrived in {path} is not what was sent", "run the command again"),
    }
    message, hint = reasons.get(about.get("kind", ""), ("it answers with what is not our protocol", _look(host)))
    return NotFitError(f"{host}: {message}", hint=hint)


def closed_door(host: str, status: int | None, errors: str, printed: str) -> NotFitError:
    """The command has ended and has not let us in; `printed` is what came instead of an answer."""
    said = f"{errors}\n{printed}".lower()
    if "unknown option: -i" in said:
        return NotFitError(
            f"{host}: its python3 is older than 3.4, and 3.8 or later is needed",
            hint=f"install a newer Python there: `ssh {host} python3 --version` must show it",
        )
    if "python3" in said and (status in (126, 127) or any(words in said for words in _NOT_FOUND)):
        return NotFitError(
            f"{host}: python3 is not found there: {last_lines(errors or printed, 2)}",
            hint="install Python 3.8 or later (Debian and Ubuntu: `apt install python3`; Fedora and RHEL: "
            "`dnf install python3`), or put it on the PATH of non-interactive logins",
        )
    ended = "without a word" if status is None else f"with exit status {status}"
    told = last_lines("\n".join(part for part in (printed.strip(), errors.strip()) if part), 5)
    return NotFitError(
        f"{host}: the login shell ended {ended}" + (f": {told}" if told else ""),
        hint=f"{_look(host)}: a start file of the login shell (~/.bashrc, ~/.profile) that ends it is the usual reason",
    )


def silent_door(host: str, errors: str, printed: str) -> NotFitError:
    """Neither an answer nor an end."""
    told = last_lines("\n".join(part for part in (printed.strip(), errors.strip()) if part), 5)
    return NotFitError(
        f"{host} lets us log in, but its shell does not start python3" + (f"; it printed: {told}" if told else ""),
        hint=f"{_look(host)}: if it hangs, a start file of the login shell waits for something",
    )


def last_lines(text: str, count: int) -> str:
    """The last lines that say something, as one line."""
    lines = [line for line in (clean(line).strip() for line in text.splitlines()) if line]
    return " | ".join(lines[-count:])


def clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[-1000:])


def _look(host: str) -> str:
    return f"try `ssh {host} python3 --version`"

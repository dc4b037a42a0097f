"""Published checkpoints come home while the run is alive: each host's gatherer, which brings what is its turn."""

from __future__ import annotations

from launcher.gather.again import Gatherer, Source
from launcher.gather.asking import Pull
from launcher.gather.at_home import AtHome, NoRoomError, Progress, RefusedError
from launcher.gather.choosing import Choosing
from launcher.gather.copies import Copies, Turn
from launcher.gather.disk import Disk, FullDisk, Tell
from launcher.gather.which import NEWEST

_EVERY_S = 1.0


class Checkpoints(Gatherer):
    """Brings one host's checkpoints home as they are published; see Gatherer for the other arguments.

    `home` is NEWEST or ALL; `keep` says how many stay at home, None for all of them. `copies` is shared by all hosts of
    a run. `progress` is told (name, bytes of this piece, bytes here, bytes in all), from the thread.
    """

    what = "checkpoints"

    def __init__(
        self,
        source: Source,
        *,
        home: str = NEWEST,
        keep: int | None = None,
        copies: Copies | None = None,
        progress: Progress | None = None,
        tell: Tell = lambda _: None,
        full: FullDisk | None = None,
    ) -> None:
        super().__init__(source, tell=tell, full=full)
        self._policy, self._keep, self._progress = home, keep, progress
        self._copies = copies or Copies({})
        self._copies.join(source.host)

    def _converse(self, pull: Pull, disk: Disk) -> None:
        here = AtHome(disk, self._progress)
        if not here.begun():
            pull.release()  # of a connection that broke after its checkpoint was whole here
        home, keep = self._policy, self._keep
        choosing = Choosing(self.host, pull, here, self._copies, home=home, keep=keep, tell=self._tell_once)
        while not self._stopping.is_set():
            asked = self._asked
            name, turn = choosing.look(hurried=asked > self._settled)
            self._heard()
            if name:
                self._bring(pull, here, name)
                continue
            if turn is not Turn.NOBODYS:
                self._settle(asked)
            self._pause(_EVERY_S)

    def _trouble(self, error: Exception) -> None:
        super()._trouble(error)
        self._copies.away(self.host)

    def _bring(self, pull: Pull, here: AtHome, name: str) -> None:
        try:
            if not here.bring(pull, name):
                self._pause(_EVERY_S / 4)  # it has just been pruned; the next list says so
                here.missed(name)
        except RefusedError as error:
            self._tell(f"checkpoint {name} of {self.host} is not kept: {error}")
        except NoRoomError as error:
            self._tell_once(f"no room at home for checkpoint {name} of {self.host}: {error}; it is tried again")
            self._pause(10 * _EVERY_S)

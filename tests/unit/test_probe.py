"""After peers were lost though nobody died, all pairs are tried, and who has part in every failed one is left out."""

from __future__ import annotations

import pytest

from launcher.check.pairs import Pair
from launcher.errors import ApartError
from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import MakePlan, Note, PlanFailed, Tick
from launcher.supervise.core.succession import APART_PAUSE_S
from launcher.supervise.probe import refuse
from tests.unit.machine_driver import Driver
from worker.contract import records
from worker.contract.states import RankState

HOSTS = ["a", "b", "c"]


def tried(*failed: tuple[str, str]) -> list[Pair]:
    every = [(one, other) for one in HOSTS for other in HOSTS if one != other]
    return [Pair(one, other, "10.0.0.1", 1, "timed out" if (one, other) in failed else "") for one, other in every]


def test_the_fewest_hosts_that_have_part_in_every_failed_pair_are_named() -> None:
    refuse(tried(), HOSTS)
    refuse([Pair("a", "b", "10.0.0.1", 1, "refused", extra=True)], HOSTS)  # a port that is none of the workers'
    with pytest.raises(ApartError, match=r"b → c \(timed out\): .* without c they would") as caught:
        refuse(tried(("b", "c")), HOSTS)
    assert caught.value.hosts == {"c"}
    with pytest.raises(ApartError) as caught:
        refuse(tried(("a", "c"), ("b", "a")), HOSTS)
    assert caught.value.hosts == {"a"}


def lost_peers(min_workers: int | None = None) -> Driver:
    """A run of three hosts whose ranks have all left after a rescue, since their collective broke."""
    driver = Driver(dict.fromkeys(HOSTS, 1), RestartSpec(min_workers=min_workers))
    driver.train()
    for rank in range(len(HOSTS)):
        driver.rank_ends(rank, RankState.RESCUED, exit_code=81)
    for host in HOSTS:
        driver.say(host, records.GENERATION_ENDED)
    return driver


def later(driver: Driver, seconds: float) -> None:
    driver.now += seconds
    driver.tell(Tick())


def apart(*hosts: str) -> PlanFailed:
    return PlanFailed("b → c (timed out)", "look at the network", fatal=False, hosts=frozenset(hosts), apart=True)


def test_pairs_are_tried_again_only_if_nobody_is_known_to_have_died() -> None:
    assert lost_peers().wanted.probe
    driver = Driver(dict.fromkeys(HOSTS, 1), RestartSpec())
    driver.train()
    driver.breaks(1)
    assert not driver.wanted.probe


def test_with_fewer_hosts_allowed_the_named_one_is_left_out() -> None:
    driver = lost_peers(min_workers=2)
    driver.tell(apart("c"))
    assert driver.wanted.at_work == ("a", "b")


def test_else_they_are_waited_for_as_a_host_that_is_lost() -> None:
    driver = lost_peers()
    for _ in range(5):
        plans = len([i for i in driver.all if isinstance(i, MakePlan)])
        driver.tell(apart("c"))
        later(driver, APART_PAUSE_S + 1)
        assert len([i for i in driver.all if isinstance(i, MakePlan)]) == plans + 1
    told = [i for i in driver.all if isinstance(i, Note) and i.type == records.REMARK]
    assert len(told) == 1
    driver.now += 3700
    for _ in range(2):  # and then no longer: it counts as a failure, as any plan that cannot be made
        driver.tell(apart("c"))
        later(driver, 61)
    assert driver.end.state == "failed"
    assert "b → c" in driver.end.message

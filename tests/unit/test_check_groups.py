"""What the checks make of what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.check import groups
from launcher.check.deep import Told
from launcher.check.finding import Verdict, fatal
from launcher.check.found import Disk, Python
from launcher.check.groups.clock import difference
from launcher.check.pairs import Pair, Tried
from launcher.check.preflight import refuse
from launcher.errors import NotFitError
from tests.check_values import DISK, PYTHON, bad, found, host, of, seen
from tests.plan_values import spec
from worker.contract.machine.interfaces import Interface

THREE = spec(host("a"), host("b"), host("c"))


def changed(**keys: Any) -> Python:
    return replace(PYTHON, **keys)


WITHOUT = replace(PYTHON, tensorflow="", keras="", distribution="", cuda="", packages={})


def three(**of_b: Any) -> Any:
    return seen(THREE, found("a", 1), found("b", 2, **of_b), found("c", 3))


def test_hosts_that_are_fit_have_no_finding_but_good_ones() -> None:
    findings = groups.findings(three())
    assert [f for f in findings if f.verdict is not Verdict.OK] == []
    assert {(f.check, name) for f in findings for name in f.hosts} >= {
        (check, name) for check in groups.GROUPS if check not in ("pairs", "deep") for name in "abc"
    }
    refuse(findings)


def test_a_host_that_does_not_answer_is_told_and_the_others_are_checked() -> None:
    about = seen(THREE, found("a", 1), found("c", 3), failed={"b": NotFitError("b: no route to host", hint="see b")})
    assert [(f.hosts, f.verdict, f.what, f.fix) for f in bad("reach", about)] == [
        (("b",), Verdict.FAIL, "b: no route to host", "see b")
    ]
    assert {name for f in groups.findings(about) for name in f.hosts} == {"a", "b", "c"}


def test_tensorflow_missing_on_one_host_is_fatal_and_says_how_to_install_it() -> None:
    (wrong,) = bad("tensorflow", three(python=WITHOUT))
    assert (wrong.hosts, wrong.verdict, wrong.brief) == (("b",), Verdict.FAIL, "missing")
    assert "TensorFlow and Keras are not installed for /venv/bin/python" in wrong.what
    assert "on b: /venv/bin/python -m pip install 'tensorflow>=" in wrong.fix


def test_what_setup_may_still_bring_is_no_failure_before_it_has_run() -> None:
    cluster = spec(host("a"), host("b", setup=("pip install tensorflow",)))
    before = seen(cluster, found("a", 1), found("b", 2, python=WITHOUT), after_setup=False)
    (finding,) = bad("tensorflow", before)
    assert (finding.verdict, finding.brief) == (Verdict.WARN, "not yet")
    after = seen(cluster, found("a", 1), found("b", 2, python=WITHOUT))
    assert bad("tensorflow", after)[0].verdict is Verdict.FAIL
    missing = Python(missing="~/venv/bin/python is not an executable file")
    assert bad("python", seen(cluster, found("a", 1), found("b", 2, python=missing), after_setup=False))[0].verdict is (
        Verdict.WARN
    )


def test_a_program_may_do_without_tensorflow() -> None:
    cluster = spec(host("a"), program=("./other",))
    assert bad("tensorflow", seen(cluster, found("a", python=WITHOUT)))[0].verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("versions", "verdict", "words"),
    [
        ({"tensorflow": "2.20.0"}, Verdict.FAIL, "b has 2.20.0, and the others have 2.21.0"),
        ({"tensorflow": "2.21.1"}, Verdict.WARN, "TensorFlow must be the same everywhere: b has 2.21.1"),
        ({"keras": "3.10.0"}, Verdict.FAIL, "Keras must be the same everywhere: b has 3.10.0"),
    ],
)
def test_unequal_versions_name_the_odd_one(versions: dict[str, str], verdict: Verdict, words: str) -> None:
    (wrong,) = bad("tensorflow", three(python=changed(**versions)))
    assert (wrong.hosts, wrong.verdict) == (("b",), verdict)
    assert words in wrong.what
    assert "on b: /venv/bin/python -m pip install" in wrong.fix


def test_a_processor_without_avx_would_kill_every_worker() -> None:
    (wrong,) = bad("tensorflow", three(instructions="x86_64"))
    assert "no AVX" in wrong.what
    assert bad("tensorflow", three(instructions="aarch64 asimd")) == []


@pytest.mark.parametrize(
    ("python", "brief", "words"),
    [
        (Python("", "python9 is not an executable file"), "missing", "b: python9 is not an executable file"),
        (replace(PYTHON, version="3.7.16"), "3.7.16", "is Python 3.7.16, and 3.9 or later is needed"),
    ],
)
def test_a_python_that_is_missing_or_too_old_is_fatal(python: Python, brief: str, words: str) -> None:
    wrong = bad("python", three(python=python))[0]
    assert (wrong.hosts, wrong.verdict, wrong.brief) == (("b",), Verdict.FAIL, brief)
    assert words in wrong.what
    assert "set `python:` for host b" in wrong.fix


def test_another_minor_version_of_python_is_worth_a_word() -> None:
    (wrong,) = bad("python", three(python=replace(PYTHON, version="3.12.0")))
    assert (wrong.hosts, wrong.verdict) == (("b",), Verdict.WARN)
    assert "b has 3.12, and the others have 3.11" in wrong.what


def test_gpus_that_are_held_or_differ_are_named() -> None:
    about = seen(THREE, found("a", 1, gpus=2), found("b", 2, gpus=2, busy=(1,)), found("c", 3, gpus=2, driver="535.1"))
    told = " / ".join(finding.what for finding in bad("gpus", about))
    assert "b: 1 of 2 GPUs are held: GPU 1 by train.py (pid 7)" in told
    assert "NVIDIA drivers differ: c has 535.1, and the others have 550.54" in told
    assert fatal(bad("gpus", about)) == []


@pytest.mark.parametrize("python", [replace(PYTHON, cuda=""), replace(PYTHON, distribution="tensorflow-cpu")])
def test_a_tensorflow_that_sees_no_gpu_is_fatal_where_there_are_gpus(python: Python) -> None:
    (wrong,) = bad("gpus", seen(spec(host("a")), found("a", gpus=1, python=python)))
    assert (wrong.verdict, "was built without CUDA" in wrong.what) == (Verdict.FAIL, True)
    assert bad("gpus", seen(spec(host("a", gpus=0)), found("a", gpus=1, python=python))) == []


def test_an_nvidia_smi_that_does_not_answer_is_fatal_unless_no_gpu_is_wanted() -> None:
    broken = found("a", failures={"gpus": "nvidia-smi did not answer within 10 s"}, nvidia=True)
    (wrong,) = bad("gpus", seen(spec(host("a")), broken))
    assert (wrong.verdict, "`gpus: 0`" in wrong.fix) == (Verdict.FAIL, True)


def test_unequal_devices_are_fatal_with_the_split_that_would_make_them_equal() -> None:
    about = seen(spec(host("a"), host("b")), found("a", 1, gpus=4), found("b", 2, gpus=2))
    (wrong,) = bad("plan", about)
    assert wrong.verdict is Verdict.FAIL
    assert "every worker needs equally many GPUs" in wrong.what
    assert "`gpus_per_worker: 2`" in wrong.fix
    assert [f.brief for f in of("plan", seen(spec(host("a")), found("a", gpus=4)))] == ["1 × 4 GPUs"]


@pytest.mark.parametrize(
    ("disk", "verdict", "words"),
    [
        (replace(DISK, refused="Read-only file system"), Verdict.FAIL, "nothing can be written in /home/me"),
        (replace(DISK, free_bytes=10**6), Verdict.FAIL, "1 MB are free"),
        (replace(DISK, free_bytes=10**9), Verdict.WARN, "1 GB are free"),
        (replace(DISK, free_files=3), Verdict.WARN, "room for 3 more files only"),
        (replace(DISK, noexec=True, path="/venv"), Verdict.FAIL, "mounted noexec, and the workers' Python lies in it"),
    ],
)
def test_a_disk_without_room_or_rights_is_told(disk: Disk, verdict: Verdict, words: str) -> None:
    (wrong,) = bad("disk", three(disk=disk))
    assert (wrong.hosts, wrong.verdict) == (("b",), verdict)
    assert words in wrong.what
    assert wrong.fix


def test_limits_that_are_too_low_are_told() -> None:
    (wrong,) = bad("limits", three(open_files=(128, 128)))
    assert "b: a process may open 128 files" in wrong.what
    assert "limits.conf" in wrong.fix
    assert "`ulimit -n" in bad("limits", three(open_files=(128, None)))[0].fix
    assert "may have 100 processes" in bad("limits", three(processes=(100, 100)))[0].what
    assert "little memory" in bad("limits", three(memory_free_bytes=10**8))[0].brief
    small = seen(spec(host("a")), found("a", gpus=2, shm_bytes=64 * 2**20))
    assert "--shm-size" in bad("limits", small)[0].fix


def test_a_clock_an_hour_off_is_named_with_its_direction() -> None:
    (wrong,) = bad("clock", three(clock_s=3600.0))
    assert (wrong.hosts, wrong.verdict) == (("b",), Verdict.WARN)
    assert "b: its clock is 1.0 h ahead of this machine's" in wrong.what
    assert "1.0 h behind" in bad("clock", three(clock_s=-3600.0))[0].what


def test_hosts_that_agree_against_this_machine_are_not_blamed_one_by_one() -> None:
    off: dict[str, Any] = {"clock_s": 3600.0}
    (wrong,) = bad("clock", seen(THREE, found("a", 1, **off), found("b", 2, **off), found("c", 3, **off)))
    assert wrong.hosts == ("a", "b", "c")
    assert "set the clock of this machine" in wrong.fix


def test_a_slow_connection_is_no_wrong_clock() -> None:
    assert bad("clock", three(clock_s=2.5, clock_error_s=1.0)) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0031, "+3 ms"), (-2.5, "-2.5 s"), (3600, "+1.0 h"), (90, "+1.5 min"), (-86400, "-1.0 d")]
)
def test_a_difference_is_told_as_people_tell_it(seconds: float, text: str) -> None:
    assert difference(seconds) == text


def test_a_proxy_is_passed_by_and_told() -> None:
    findings = of("proxies", three(proxies=("https_proxy",)))
    (told,) = [finding for finding in findings if finding.hosts == ("b",)]
    assert told.verdict is Verdict.NOTE
    assert told.what == "b: https_proxy is set; the plan's no_proxy leads past it"


def at(address: str, **keys: Any) -> Any:
    interfaces = (Interface("lo", "127.0.0.1", 8), Interface("eth0", address, 24))
    return found("a", interfaces=interfaces, outgoing=address, **keys)


def other(**keys: Any) -> Any:
    return found("b", interfaces=(Interface("eth0", "8.8.4.4", 24),), outgoing="8.8.4.4", **keys)


def test_a_public_address_is_refused_unless_the_spec_allows_it() -> None:
    cluster = spec(host("a"), host("b", allow_public=True))
    (wrong,) = bad("address", seen(cluster, at("8.8.8.8"), other()))
    assert (wrong.hosts, wrong.verdict) == (("a",), Verdict.FAIL)
    assert "its address 8.8.8.8 is public" in wrong.what
    assert "allow_public: true" in wrong.fix
    named = spec(host("a", address="gpu-a.example.org"), host("b", allow_public=True))
    (wrong,) = bad("address", seen(named, at("10.0.0.1", resolved=("8.8.8.8",)), other()))
    assert "8.8.8.8 is public" in wrong.what


def test_a_public_address_beside_the_one_that_is_used_is_worth_a_word() -> None:
    two = (Interface("eth0", "10.0.0.1", 24), Interface("eth1", "8.8.8.8", 24))
    (wrong,) = bad("address", seen(spec(host("a"), host("b")), found("a", interfaces=two), found("b", 2)))
    assert (wrong.hosts, wrong.verdict) == (("a",), Verdict.WARN)
    assert "8.8.8.8 on eth1" in wrong.what


def test_a_host_without_an_address_in_the_network_is_fatal_and_says_what_it_has() -> None:
    cluster = spec(host("a", network="10.0.0.0/24"), host("b", network="10.0.0.0/24"))
    strange = found("b", interfaces=(Interface("eth0", "192.168.1.2", 24),), outgoing="192.168.1.2")
    (wrong,) = bad("address", seen(cluster, found("a"), strange))
    assert wrong.hosts == ("b",)
    assert "no address of host b is in 10.0.0.0/24; found: 192.168.1.2 on eth0" in wrong.what


def test_ports_that_nothing_can_have_and_ports_that_anybody_gets_are_told() -> None:
    tried = Tried((), (("b", 20001, "Address already in use"),))
    (wrong,) = bad("ports", replace(three(), tried=tried))
    assert (wrong.hosts, wrong.verdict) == (("b",), Verdict.FAIL)
    assert "20001 (Address already in use)" in wrong.what
    assert "nothing is free in 20000-20099" in bad("ports", three(free_ports=()))[0].what
    (wrong,) = bad("ports", seen(spec(host("a", ports=(40000, 40099))), found("a", free_ports=(40000,))))
    assert (wrong.verdict, "`ports:` outside of that, such as 20000-20099" in wrong.fix) == (Verdict.WARN, True)


ALL = [Pair(s, t, f"10.0.0.{'abc'.index(t) + 1}", 20000, milliseconds=1.0) for s in "abc" for t in "abc" if s != t]


def tried(*failures: tuple[str, str, str], **keys: Any) -> Tried:
    why = {(s, t): w for s, t, w in failures}
    return Tried(tuple(replace(p, why=why.get((p.source, p.target), ""), **keys) for p in ALL))


def test_pairs_that_all_answer_are_good() -> None:
    assert [f.brief for f in of("pairs", replace(three(), tried=tried()))] == ["1 ms"] * 3


def test_one_blocked_pair_is_named_with_its_port_and_the_rule_that_would_open_it() -> None:
    about = replace(three(firewall="ufw"), tried=tried(("a", "b", "timed out")))
    (wrong,) = bad("pairs", about)
    assert (wrong.verdict, set(wrong.hosts)) == (Verdict.FAIL, {"a", "b"})
    assert wrong.what == "a → b at 10.0.0.2:20000: timed out"
    assert "sudo ufw allow proto tcp from 10.0.0.1 to any port 20000:20099" in wrong.fix
    assert [f.hosts for f in of("pairs", about) if f.verdict is Verdict.OK] == [("c",)]


def test_a_host_that_nobody_reaches_is_one_finding_that_names_all_pairs() -> None:
    (wrong,) = bad("pairs", replace(three(), tried=tried(("a", "b", "refused"), ("c", "b", "refused"))))
    assert "a → b, c → b at 10.0.0.2:20000: refused" in wrong.what
    assert "iptables -I INPUT -p tcp -s 10.0.0.1 --dport 20000:20099 -j ACCEPT" in wrong.fix
    assert "-s 10.0.0.3" in wrong.fix


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("firewalld", "firewall-cmd --permanent --add-rich-rule='rule family=ipv4 source address=10.0.0.1 port port="),
        ("nft", "nft insert rule inet filter input ip saddr 10.0.0.1 tcp dport 20000-20099 accept"),
        ("", "iptables -I INPUT"),
    ],
)
def test_the_rule_is_one_for_the_firewall_that_is_there(kind: str, words: str) -> None:
    assert words in bad("pairs", replace(three(firewall=kind), tried=tried(("a", "b", "no route"))))[0].fix


def test_a_firewall_on_the_way_out_is_opened_there() -> None:
    why = "forbidden by this host's own firewall"
    (wrong,) = bad("pairs", replace(three(), tried=tried(("b", "c", why))))
    assert "through on b" in wrong.fix
    assert "-I OUTPUT -p tcp -d 10.0.0.3" in wrong.fix


def test_another_address_that_answers_is_the_first_thing_to_try() -> None:
    better = Interface("ib0", "192.168.9.2", 24)
    (wrong,) = bad("pairs", replace(three(), tried=tried(("a", "b", "timed out"), better=better)))
    assert wrong.fix.startswith("b answers at 192.168.9.2 (ib0): set `network: 192.168.9.0/24`")


def test_an_address_that_leads_to_another_machine_is_no_firewalls_fault() -> None:
    (wrong,) = bad("pairs", replace(three(), tried=tried(("a", "b", "something else answers there"))))
    assert "set `address:` for b, which has 127.0.0.1 (lo), 10.0.0.2 (eth0)" in wrong.fix


def extra(why: str) -> Tried:
    return Tried((*ALL, replace(ALL[0], port=43210, why=why, extra=True)))


def test_a_firewall_with_only_the_ports_of_the_spec_open_is_enough_on_cpus_and_stops_nccl() -> None:
    assert bad("pairs", replace(three(), tried=extra("timed out"))) == []
    (note,) = [f for f in of("pairs", replace(three(), tried=extra("timed out"))) if f.verdict is Verdict.NOTE]
    assert "only the ports of the spec get through (a → b)" in note.what
    assert "NCCL, which chooses ports of its own" in note.what
    on_gpus = seen(THREE, *(found(name, n, gpus=1) for n, name in enumerate("abc", 1)))
    (wrong,) = bad("pairs", replace(on_gpus, tried=extra("timed out")))
    assert (wrong.verdict, "`communication: ring`" in wrong.fix) == (Verdict.FAIL, True)
    assert bad("pairs", replace(on_gpus, tried=extra(""))) == []


def test_others_who_can_log_in_are_named() -> None:
    (wrong,) = bad("users", three(accounts=("eve", "bob"), accounts_count=2, active=("eve",)))
    assert wrong.verdict is Verdict.WARN
    assert "b: 2 others can log in (eve, bob), and eve have processes" in wrong.what
    assert "--dport 20000:20099 -m owner ! --uid-owner me" in wrong.fix


def test_hosts_with_the_same_others_and_those_behind_one_dead_jump_host_are_told_once() -> None:
    about = three()
    alike = {name: replace(found, accounts=("eve",), accounts_count=1) for name, found in about.found.items()}
    (users,) = [f for f in groups.findings(replace(about, found=alike)) if f.check == "users"]
    assert (users.hosts, users.what.partition(":")[0]) == (("a", "b", "c"), "a, b and c")
    failed = {name: NotFitError(f"{name}: jump host gate: no answer", hint="wake it") for name in ("b", "c")}
    without = replace(about, found={"a": about.found["a"]}, failed=failed)
    (reach,) = [f for f in groups.findings(without) if f.check == "reach" and f.verdict is Verdict.FAIL]
    assert (reach.hosts, reach.what, reach.fix) == (("b", "c"), "b and c: jump host gate: no answer", "wake it")


def test_a_system_that_ends_processes_at_logout_is_told() -> None:
    (wrong,) = bad("logout", three(kills_at_logout=True))
    assert "a lost connection would end its workers" in wrong.what
    assert "KillUserProcesses=no" in wrong.fix


def test_a_trial_that_failed_names_the_cause_and_not_its_victims() -> None:
    told = (Told(0, "a", "ended: another worker had failed", victim=True), Told(1, "b", "exit code 1 | no such device"))
    (wrong,) = bad("deep", replace(three(), deep=told))
    assert (wrong.hosts, wrong.verdict) == (("b",), Verdict.FAIL)
    assert "rank 1 on b did not do its two steps: exit code 1 | no such device" in wrong.what


def test_what_is_fatal_stops_up_with_every_reason_and_its_fix() -> None:
    about = replace(three(python=WITHOUT), tried=tried(("a", "b", "timed out")))
    with pytest.raises(NotFitError) as caught:
        refuse(groups.findings(about), spec="my.yaml")
    assert "pairs: a → b at 10.0.0.2:20000: timed out" in caught.value.message
    assert "let TCP 20000-20099 from a through on b" in caught.value.message
    assert "TensorFlow and Keras are not installed" in caught.value.message
    assert "launcher check my.yaml" in caught.value.hint
    assert caught.value.exit_code == 3


def test_what_a_host_could_not_tell_is_told() -> None:
    (wrong,) = bad("reach", three(failures={"users": "no answer within 5 s"}))
    assert wrong.what == "b could not tell its users: no answer within 5 s"

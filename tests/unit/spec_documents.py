"""Documents for the loader: one with every key, hostile ones, and accidents that happen to good ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from launcher.spec.nodes import MAX_BYTES

ROOT = Path(__file__).parents[2]

EVERY_KEY = """\
name: fashion-cnn
hosts:
  - gpu-a
  - localhost
  - &b {name: here, local: true, workers: 2, gpus: [0, 1], address: 10.0.0.5, env: {A: "1", B: 3.10}}
  - name: b
    ssh: {host: 10.0.0.12, user: me, port: 22, key: ~/.ssh/id_ed25519, jump: gate}
    gpus: 4
    gpus_per_worker: 1
    ports: 21000-21099
host_defaults: {threads: 8, network: 10.0.0.0/24, ports: 20000-20099, python: ~/venv/bin/python, activate: x,
  setup: [a, b], workdir: ~/w, env: {NCCL_DEBUG: WARN}, transport: paramiko, host_keys: known, allow_public: false}
sync: {source: ., exclude: [data/], max: 200 MB}
data: {train: host:/data/train}
secrets: [WANDB_API_KEY]
train: {model: cnn, dataset: {npz: x.npz}, epochs: 5, batch_size: 64, optimizer: {name: adam, learning_rate: 1e-3},
  seed: 0, deterministic: true, precision: float32, communication: auto}
program: {argv: [python, train.py], mirrored: extend, keras_repair: true, resume: auto, one_seed: true}
checkpoint: {every: [1 epoch, 10 min], keep: 3, home: newest, copies: 2}
restart: {max: 3, per: 1 h, backoff: 1 s, min_workers: 2, grow: at_restart, spares: 0, zygote: true, keep_warm: 10 min}
timeouts: {connect: 15 s, start: 120 s, stall: 5 min, host: 10 s, checkpoint: 5 min, stop: 10 s, lease: 24 h}
coordinator: {runs: ~/launcher-runs, on_end: ./notify.sh, on_event: ./log.sh}
"""
SEEDS = [
    EVERY_KEY,
    (ROOT / "cluster.yaml").read_text(),
    (ROOT / "launcher/cli/starter.yaml").read_text(),
    (ROOT / "launcher/cli/starter-program.yaml").read_text(),
]
TOKENS: list[str] = [
    *":,-?|>&*!%@`#'\"[]{}\n\t~ ",
    *(
        "- ",
        ": ",
        "? ",
        "\n  ",
        "\n- ",
        "<<: ",
        "&a ",
        "*a",
        "*b",
        "--- ",
        "...\n",
        "%YAML 1.2\n",
        "%TAG ! x\n",
        "|2-\n",
    ),
    *(
        "!!python/object:os.system ",
        "!!binary ",
        "!!int ",
        "!<x> ",
        "! ",
        "null",
        "true",
        "yes",
        "NaN",
        ".inf",
        "-.inf",
    ),
    *("0x1F", "0o17", "017", "1e3", "1e999", "1_000", "12:30:45", "-1", "0", "9" * 40, "9" * 5000, "1" + "0" * 5000),
    *(
        "2001-01-01",
        "\\",
        '"\\0"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        '"\\x"',
        "é",
        "\u2028",
        "\x85",
        "\ufeff",
        "\x00",
        "\x1b[2J",
    ),
    *(
        "name",
        "hosts",
        "train",
        "program",
        "every",
        "localhost",
        "../../etc",
        "~root/x",
        "x" * 3000,
        "[" * 60,
        "{a: " * 40,
    ),
]


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"name: *a{levels - 1}"])


def hostile() -> list[bytes]:
    """The documents that loaders have died of, at full size where size is the weapon."""
    full = MAX_BYTES - 100
    texts = [
        "",
        " ",
        "\n" * 1000,
        "# only a comment",
        "---",
        "--- \n--- \n",
        "...",
        "null",
        "[]",
        "{}",
        "text",
        "- a",
        "{",
        "}",
        bomb(9, 9),
        bomb(60, 2),
        "a: &a\n" + "  b: &b [*b]\n",
        "name: &x {y: *x}",
        "&a [*a]",
        "*a",
        "&a *a",
        "a: &a *a",
        "x: &a [1]\n" + "y: [" + "*a, " * 60000 + "]",
        "[" * 5000,
        "{" * 5000,
        "[" * 5000 + "]" * 5000,
        "{a: " * 3000,
        "- " * 5000,
        "? " * 5000,
        "a:\n" * 10,
        "".join(f"{' ' * n}a{n}:\n" for n in range(400)),
        "!" * 5000,
        "&" * 5000,
        "*" * 5000,
        "|" * 5000,
        ": " * 5000,
        "a" * full,
        '"' + "a" * full,
        "'" + "\n" * full,
        "name: " + "9" * full,
        "x: |\n " + "y" * full,
        "#" * full,
        "[" + "a, " * (full // 4) + "]",
        "- a\n" * (full // 4),
        "".join(f"k{n}: v\n" for n in range(full // 9)),
        "name: a\n" * (full // 8),
        "hosts: [" + "localhost, " * 3000 + "]",
        "hosts: [" + "{local: true}, " * 3000 + "]",
        "name: a\nhosts: [{local: true, workers: 999999999}]",
        "name: a\nhosts: [{local: true, ports: 1024-99999}]",
        "<<: {name: a}",
        "<<: [*a, *b]",
        "name: a\n<<: &x {<<: *x}",
        "a\tb: c",
        "\tname: a",
        "name:\ta",
        "name: a\n\thosts: b",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "? |\n  a\n: b",
        "name: !!python/object/apply:os.system [id]",
        "%YAML " + "9" * 5000,
        "%TAG ! tag:x,2000:\n--- !y z",
        'name: "\\0"',
        'name: "\\ud800"',
        'name: "\\UFFFFFFFF"',
        "name: \x1b[2J",
        "name: \x00",
        "train: {dataset: {npz: " + "d/" * 5000 + "}}",
        "train: {dataset: {npz: " + "n" * 5000 + "}}",
        "name: a\nhosts: {file: cluster.yaml}",
        "name: a\nhosts: {file: /dev/zero}",
        "name: a\nhosts: {file: .}",
        "train: {learning_rate: " + "9" * 400 + "}",
        "train: {learning_rate: 1e-999}",
        "train: {seed: -" + "1" * 30 + "}",
        "checkpoint: {every: " + "[1 epoch, " * 3 + "}",
        "timeouts: {stop: " + "1 s " * 2000 + "}",
        "sync: {max: 1" + "0" * 300 + " TB}",
    ]
    plain = [text.encode("utf-8", "surrogatepass") for text in texts]
    good = EVERY_KEY.encode()
    return [
        *plain,
        *(EVERY_KEY.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp500")),
        *(
            b"\xff" * 100,
            b"\xfe\xff" + good,
            b"\x00" * 1000,
            good + b"\x00",
            good + b"\xe2\x82",
            b"x" * (MAX_BYTES + 1),
        ),
        *(bytes([byte]) * 200 for byte in range(256)),
    ]


def mutated(source: random.Random) -> bytes:
    """A seed with a few accidents, or a soup of tokens."""
    if source.random() < 0.15:
        return "".join(source.choice(TOKENS) for _ in range(source.randrange(1, 60))).encode("utf-8", "surrogatepass")
    text = source.choice(SEEDS)
    for _ in range(source.randrange(1, 8)):
        text = source.choice(ACCIDENTS)(text, source)
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if source.random() < 0.2 and data:
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
    return bytes(data)


def _insert(text: str, source: random.Random) -> str:
    at = source.randrange(len(text) + 1)
    return text[:at] + source.choice(TOKENS) + text[at:]


def _cut(text: str, source: random.Random) -> str:
    at = source.randrange(len(text) + 1)
    return text[:at] + text[at + source.randrange(1, 40) :]


def _double_a_line(text: str, source: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = source.randrange(len(lines))
    return "".join([*lines[: at + 1], *lines[at:]])


def _swap_lines(text: str, source: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    one, other = source.randrange(len(lines)), source.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return "".join(lines)


def _replace_a_value(text: str, source: random.Random) -> str:
    colons = [at for at, char in enumerate(text) if char == ":"]
    if not colons:
        return text
    at = source.choice(colons) + 1
    end = next((n for n in range(at, len(text)) if text[n] in ",}\n"), len(text))
    return text[:at] + " " + source.choice(TOKENS) + text[end:]


ACCIDENTS: list[Callable[[str, random.Random], str]] = [_insert, _cut, _double_a_line, _swap_lines, _replace_a_value]


def mutated_setting(source: random.Random) -> str:
    keys = [
        "train.epochs",
        "hosts[0].gpus",
        "hosts",
        "name",
        "hosts[9].env.A",
        "train",
        "sync.max",
        "a[0][1].b",
        "",
        "hosts.file",
    ]
    key = source.choice(keys) if source.random() < 0.8 else source.choice(TOKENS)
    return key + source.choice(["=", "=", "=", ""]) + source.choice([*TOKENS, "2", "[0, 1]", "{a: b}"])

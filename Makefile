# make up     the environment, then the default cluster.yaml to its end (offline once the packages are there)
# make test   the environment, then the tests; what concerns several hosts has its own: make test-hosts (needs sshd)
# make test-deaths  processes killed, rescued and started again on this machine
# make test-long  the long forms of proofs that the others have short ones of (docs/lab.md): links cut for minutes,
#                 slow uplinks, a coordinator frozen for ten minutes; over half an hour (root, sshd)
# make rescue-proof  workers killed and frozen at random, every bit compared: ROUNDS=50 SEED=1, about half an hour
# make sim    supervisor and agents in a simulated world: all histories of two faults, YEARS=5 SEED=1 of random ones
# make chaos  real training struck at random (killed, frozen, cut off, disks filled), then judged from its files alone
#             (docs/chaos.md): SEED=1 MINUTES=5; with root in network namespaces
# make lab    hosts to play with on this machine, until Ctrl-C: HOSTS=4; NET=1 for networks of their own (root); JUMP=1
# make check  ruff, mypy --strict, the import-direction test
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed

.PHONY: up test test-deaths test-hosts test-long rescue-proof sim chaos lab check env clean

ROUNDS ?= 50
SEED   ?= 1
HOSTS  ?= 4
YEARS  ?= 5
MINUTES ?= 5

up: $(STAMP)
	$(BIN)/python -m launcher up cluster.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -m 'not hosts and not deaths and not long'

test-deaths: $(STAMP)
	$(BIN)/python -m pytest -m 'deaths and not long'

test-hosts: $(STAMP)
	$(BIN)/python -m pytest -m 'hosts and not long'

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long --durations=0

rescue-proof: $(STAMP)
	$(BIN)/python -m benchmarks.rescue_proof --seed $(SEED) --rounds $(ROUNDS)

sim: $(STAMP)
	$(BIN)/python -m tests.sim --explore 2 --seed $(SEED) --years $(YEARS)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES)

lab: $(STAMP)
	@$(BIN)/python -m tests.lab --hosts $(HOSTS) $(if $(NET),--net) $(if $(JUMP),--jump)

check: $(STAMP)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit/test_import_direction.py

env: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else "Python 3.10 to 3.13 is needed; this is %s. Say which: make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	$(BIN)/python -m compileall -q launcher worker
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

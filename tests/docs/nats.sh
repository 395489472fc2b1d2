# Starts a NATS server on 127.0.0.1:4222 and configures it. Stands before `dev`.
"$CHECKOUT/target/nats-venv/bin/nats-server" -js -sd "$PWD/nats" -a 127.0.0.1 -p 4222 2> nats.log &
export NAS_CRON_NATS_URLS=nats://127.0.0.1:4222

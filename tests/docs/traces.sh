# Starts an OTLP receiver, and makes the service of `dev` export to it. The receiver appends what it gets to ./spans.
otlp="$CHECKOUT/target/otlp-venv/bin/python"
"$otlp" "$CHECKOUT/tests/external/otlp/receive.py" > spans.all &
wait_for 'test -s spans.all'
port=$(head -n 1 spans.all)
tail -n +2 -f spans.all > spans &
export NAS_CRON_OTLP_ENDPOINT=http://127.0.0.1:$port/accept

# Starts an OTLP receiver on 127.0.0.1:4318, which appends what it gets to ./spans. Stands before `dev`.
"$CHECKOUT/target/otlp-venv/bin/python" "$CHECKOUT/tests/external/otlp/receive.py" 4318 > spans.all &
wait_for 'test -s spans.all'
tail -n +2 -f spans.all > spans &
export NAS_CRON_OTLP_ENDPOINT=http://127.0.0.1:4318

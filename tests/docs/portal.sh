# Stands in for the portal of a deployment whose page starts `nas-cron serve` itself on 127.0.0.1:8080, with the admin API on 127.0.0.1:8081: `nas-cron dev`
# on 127.0.0.1:8090 publishes the portal's keys, and `portal_token ORG CLIENT` issues an access token with
# https://portal.example as its issuer. An agent on 127.0.0.1:9119 appends fires to ./fires.
python3 "$CHECKOUT/tests/docs/agent.py" 9119 &
nas-cron dev --no-demo --listen 127.0.0.1:8090 --dir "$PWD/portal" > /dev/null 2>&1 &
wait_for 'test -e portal/dev.json'
sed -i 's|"portal_url": .*|"portal_url": "https://portal.example",|' portal/dev.json
portal_token() { nas-cron dev token --dir "$PWD/portal" --org "$1" --client-id "$2"; }
export NAS_CRON_PORTAL_JWKS_URL=http://127.0.0.1:8090/dev/portal/jwks.json NAS_CRON_CALLBACK_ALLOW=127.0.0.0/8
export NAS_CRON_LISTEN=127.0.0.1:8080 NAS_CRON_ADMIN_LISTEN=127.0.0.1:8081 NAS_CRON_METRICS_LISTEN=127.0.0.1:9090

# Starts `nas-cron dev` on 127.0.0.1:8080, with the admin API on 127.0.0.1:8081 (log in ./service.log, metrics at 127.0.0.1:9090 for curl) and an agent on
# 127.0.0.1:9119 that appends fires to ./fires. Registers agent-1 of acme. Exports TOKEN (an access token of agent-1),
# ADMIN_TOKEN, and the service's settings for operator commands.
python3 "$CHECKOUT/tests/docs/agent.py" 9119 &
NAS_CRON_LOG_FORMAT=json NAS_CRON_LOG_FILTER=info nas-cron dev --no-demo --listen 127.0.0.1:8080 --admin-listen 127.0.0.1:8081 --dir "$PWD/dev" > dev.out 2> service.log &
# Printed last.
wait_for 'grep -q "/metrics$" dev.out'
export ADMIN_TOKEN=$(jq -r .admin_token dev/dev.json)
export NAS_CRON_DATABASE_URL=$(jq -r .database_url dev/dev.json)
export NAS_CRON_KEY_ENCRYPTION_KEY_FILE=$PWD/dev/key-encryption-key
export NAS_CRON_PORTAL_URL=http://127.0.0.1:8080 NAS_CRON_PORTAL_JWKS_URL=http://127.0.0.1:8080/dev/portal/jwks.json
export NAS_CRON_CALLBACK_ALLOW=127.0.0.0/8
export NAS_CRON_LISTEN=127.0.0.1:8080 NAS_CRON_METRICS_LISTEN=127.0.0.1:9090
# `dev` chooses a port for metrics.
METRICS=$(sed -n 's|.*http://\(.*\)/metrics$|\1|p' dev.out)
curl() { command curl "${@//127.0.0.1:9090/$METRICS}"; }
nas-cron agents add agent-1 --org acme
export TOKEN=$(nas-cron dev token --dir "$PWD/dev" --client-id agent:agent-1 --org acme)

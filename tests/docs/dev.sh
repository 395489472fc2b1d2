# Starts `nas-cron dev` on 127.0.0.1:8080 and an agent on 127.0.0.1:9119 that accepts every fire and appends its body to
# ./fires. Logs to ./service.log, metrics at 127.0.0.1:9090 for curl. Registers agent-1 of acme. Exports TOKEN (an access token of agent-1), ADMIN_TOKEN, and the service's
# settings for operator commands.
cat > agent.py <<'PY'
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(body, file=open("fires", "a"), flush=True)
        self.send_response(202)
        self.end_headers()
ThreadingHTTPServer(("127.0.0.1", 9119), Agent).serve_forever()
PY
python3 agent.py &
nas-cron dev --no-demo --listen 127.0.0.1:8080 --dir "$PWD/dev" > dev.out 2> service.log &
wait_for 'test -e dev/dev.json'
from_dev() { python3 -c 'import json, sys; print(json.load(open("dev/dev.json"))[sys.argv[1]])' "$1"; }
export ADMIN_TOKEN=$(from_dev admin_token)
export NAS_CRON_DATABASE_URL=$(from_dev database_url)
export NAS_CRON_KEY_ENCRYPTION_KEY_FILE=$PWD/dev/key-encryption-key
export NAS_CRON_PORTAL_URL=http://127.0.0.1:8080 NAS_CRON_CALLBACK_ALLOW=127.0.0.0/8
export NAS_CRON_LISTEN=127.0.0.1:8080 NAS_CRON_METRICS_LISTEN=127.0.0.1:9090
# It serves metrics at a port of its own.
METRICS=$(sed -n 's|.*http://\(.*\)/metrics$|\1|p' dev.out)
curl() { command curl "${@//127.0.0.1:9090/$METRICS}"; }
nas-cron agents add agent-1 --org acme
export TOKEN=$(nas-cron dev token --dir "$PWD/dev" --client-id agent:agent-1 --org acme)

# A complete agent: it runs the job "report" every PERIOD seconds. Needs PyJWT[crypto] 2.15 or newer.
import http.server, json, jwt, os, random, sqlite3, threading, urllib.request
from datetime import datetime, timedelta, timezone

PORTAL, AGENT, CALLBACK, PERIOD = (os.environ[n] for n in ("PORTAL_URL", "AGENT_ID", "CALLBACK_URL", "PERIOD"))
KEYS = jwt.PyJWKClient(f"{PORTAL}/api/agent-cron/jwks.json", lifespan=random.uniform(240, 300), timeout=10)
db = sqlite3.connect("agent.db", isolation_level=None, check_same_thread=False)
db.execute("CREATE TABLE IF NOT EXISTS jobs (id PRIMARY KEY, ran)")  # ran: the fire_at of the latest claimed fire
db.execute("INSERT OR IGNORE INTO jobs VALUES ('report', '2000-01-01T00:00:00+00:00')")

def arm(job_id):
    [ran] = db.execute("SELECT ran FROM jobs WHERE id = ?", [job_id]).fetchone()
    due = max(datetime.fromisoformat(ran) + timedelta(seconds=float(PERIOD)), datetime.now(timezone.utc))
    fire_at = due.isoformat(timespec="seconds")
    body = dict(job_id=job_id, fire_at=fire_at, agent_callback_url=CALLBACK, dedup_key=f"{job_id}:{fire_at}")
    try:
        bearer = {"Authorization": "Bearer " + open(os.environ["ACCESS_TOKEN_FILE"]).read().strip()}
        request = urllib.request.Request(f"{PORTAL}/api/agent-cron/provision", json.dumps(body).encode(), bearer)
        urllib.request.urlopen(request, timeout=15).close()
    except OSError as error:  # an error status, a timeout, no connection: retry, or the job never fires again
        print(f"arming {job_id} failed: {error}", flush=True)
        threading.Timer(random.uniform(5, 15), arm, [job_id]).start()

def run(job_id):
    print(f"running {job_id}", flush=True)  # the job's own work
    arm(job_id)

class Agent(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # the signed claims say the same
        try:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            claims = jwt.decode(token, KEYS.get_signing_key_from_jwt(token), ["ES256", "RS256"], issuer=PORTAL,
                                audience=f"agent:{AGENT}", leeway=30, options={"require": ["exp", "nbf", "iat", "jti"]})
            if claims.get("purpose") != "cron_fire": raise jwt.InvalidTokenError("not a fire token")
        except jwt.PyJWTError as error:
            return self.send_error(503 if isinstance(error, jwt.PyJWKClientConnectionError) else 401)
        if db.execute("UPDATE jobs SET ran = :fire_at WHERE id = :job_id AND ran < :fire_at RETURNING 1", claims).fetchall():
            threading.Thread(target=run, args=[claims["job_id"]]).start()  # not for a repeated fire: it claims no row
        known = db.execute("SELECT 1 FROM jobs WHERE id = :job_id", claims).fetchall()
        self.send_response(202 if known else 200)
        self.end_headers()
        self.wfile.write(b'{"status": "accepted"}' if known else b'{"status": "gone"}')

threading.Thread(target=arm, args=["report"]).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()

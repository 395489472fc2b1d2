"""A receiver of events that verifies each delivery with the official library, and answers 204, or 401 if it is not authentic.

Arguments: the secrets, as `nas-cron webhooks add` prints them. Prints the port, then a line of JSON for each delivery:
{"event": the body, "id": `webhook-id`, "verified": for each secret, true or the error}. The first secret decides the status.
"""

import http.server
import json
import sys

from standardwebhooks.webhooks import Webhook

receivers = [Webhook(secret) for secret in sys.argv[1:]]


def verify(receiver, body, headers):
    try:
        receiver.verify(body, headers)
        return True
    except Exception as error:  # any exception is a refusal
        return f"{type(error).__name__}: {error}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        verified = [verify(receiver, body, headers) for receiver in receivers]
        self.send_response(204 if verified[0] is True else 401)
        self.end_headers()
        line = {"event": json.loads(body), "id": headers["webhook-id"], "verified": verified}
        print(json.dumps(line), flush=True)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()

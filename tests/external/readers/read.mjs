// Reads JSON and URLs as JavaScript does: its URLs are those of the WHATWG.
//
// stdin:  {"json": ["<base64>"], "urls": ["…"]}, each optional
// stdout: {"json": [{"value": …} or null], "urls": [{"scheme", "host", "port"} or null]}

let asked = "";
for await (const chunk of process.stdin) asked += chunk;

function parsed(text) {
  try {
    // `ignoreBOM` keeps a byte order mark, which JSON.parse rejects.
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { value: JSON.parse(decoder.decode(Buffer.from(text, "base64"))) };
  } catch {
    return null;
  }
}

function located(text) {
  try {
    const { protocol, hostname, port } = new URL(text);
    return { scheme: protocol.slice(0, -1), host: hostname, port: port === "" ? null : Number(port) };
  } catch {
    return null;
  }
}

const { json = [], urls = [] } = JSON.parse(asked);
process.stdout.write(JSON.stringify({ json: json.map(parsed), urls: urls.map(located) }));

// Reads JSON as JavaScript does.
//
// stdin:  {"json": ["<base64>"]}
// stdout: {"json": [{"value": …} or null]}

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

process.stdout.write(JSON.stringify({ json: JSON.parse(asked).json.map(parsed) }));

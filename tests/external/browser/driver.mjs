// Drives chromium for the tests of the operators' page.
//
// Reads a line of JSON for each call on stdin: {"id", "call", "tab", ...}. Writes a line {"id", "result"} or {"id", "error"} for
// each on stdout, when it has ended. Ends with stdin. Arguments: the path of chromium.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.cwd()}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// As root, chromium has no sandbox. It loads pages of the tests only.
const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const tabs = new Map();
const TIMEOUT = 20_000;

// A tab with cookies of its own, or those of another tab.
async function open({ width = 1280, height = 800, theme = "light", scripts = true, like }) {
  const context = await browser.newContext({
    viewport: { width, height }, colorScheme: theme, javaScriptEnabled: scripts, locale: "en-GB", timezoneId: "Europe/Berlin",
    reducedMotion: "reduce", storageState: like === undefined ? undefined : await tabs.get(like).context.storageState(),
  });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT);
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    // Every violation of the content security policy is one of these.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(message.text());
  });
  const tab = tabs.size;
  tabs.set(tab, { context, page, problems });
  return tab;
}

// Violations that axe calls serious or critical. It runs beside the page's scripts, so that the page's policy stays in force.
async function accessibility(page) {
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const world = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
  const run = (expression) => session.send("Runtime.evaluate", {
    contextId: world.executionContextId, expression, awaitPromise: true, returnByValue: true,
  });
  await run(axe);
  const { result, exceptionDetails } = await run("axe.run().then((found) => JSON.stringify(found.violations))");
  await session.detach();
  if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
  return JSON.parse(result.value)
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
}

const calls = {
  open: (_, options) => open(options),
  async goto({ page }, { url }) {
    const response = await page.goto(url);
    return response.status();
  },
  click: ({ page }, { target, twice }) => twice ? page.locator(target).first().dblclick() : page.locator(target).first().click(),
  fill: ({ page }, { target, value }) => page.locator(target).first().fill(value),
  check: ({ page }, { target }) => page.locator(target).first().check(),
  select: ({ page }, { target, value }) => page.locator(target).first().selectOption(value),
  press: ({ page }, { key }) => page.keyboard.press(key),
  text: ({ page }, { target }) => page.locator(target).first().innerText(),
  attribute: ({ page }, { target, value }) => page.locator(target).first().getAttribute(value),
  count: ({ page }, { target }) => page.locator(target).count(),
  visible: ({ page }, { target }) => page.locator(target).first().waitFor(),
  url: ({ page }) => page.url(),
  // Sends a form that the page does not have.
  send: ({ page }, { url, fields }) => Promise.all([
    page.waitForEvent("load"),
    page.evaluate(([url, fields]) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: url, hidden: true });
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { name, value }));
      }
      document.body.append(form);
      form.submit();
    }, [url, fields]),
  ]).then(() => null),
  // The window is left, or returned to. Without a screen, every window has the focus.
  focus: ({ page }, { has }) => page.evaluate((has) => {
    document.hasFocus = () => has;
    window.dispatchEvent(new Event(has ? "focus" : "blur"));
  }, has),
  reload: ({ page }) => page.reload().then(() => null),
  // Pixels by which the page is wider than the window.
  overflow: ({ page }) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
  // Opens everything that can be unfolded.
  unfold: ({ page }) => page.evaluate(() => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  }).then(() => null),
  // Lines that the text of an element has.
  lines: ({ page }, { target }) => page.locator(target).first().evaluate((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
  }),
  focused: ({ page }) => page.evaluate(() => document.activeElement.innerText || document.activeElement.name || document.activeElement.tagName),
  accessibility: ({ page }) => accessibility(page),
  problems: ({ problems }) => problems,
  screenshot: ({ page }, { path, whole }) => page.screenshot({ path, fullPage: whole }).then(() => null),
  async close({ context }, { tab }) {
    await context.close();
    tabs.get(tab).page = null;
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { id, call, tab, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = { id, result: (await calls[call](tabs.get(tab), { tab, ...rest })) ?? null };
  } catch (error) {
    answer = { id, error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
lines.on("close", () => browser.close());

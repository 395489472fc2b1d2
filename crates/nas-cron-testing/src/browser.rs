//! A real browser: Debian's chromium, driven by playwright-core, which `make browser` installs. All tests of a process share
//! it; each tab has cookies of its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::programs;

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// The browser of this process. It ends with the process, when its stdin closes.
struct Browser {
    _child: Child,
    calls: Mutex<(u64, ChildStdin)>,
    answers: Answers,
}

static BROWSER: LazyLock<Browser> = LazyLock::new(Browser::start);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a checkout")
}

impl Browser {
    fn start() -> Self {
        let root = root();
        let packages = root.join("target/browser-node");
        assert!(
            packages.join("node_modules").exists(),
            "the browser's driver is missing: `make browser` installs it"
        );
        let mut child = Command::new("node")
            .arg(root.join("tests/external/browser/driver.mjs"))
            .arg(programs::find("chromium"))
            .current_dir(packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make browser` installs node");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let answers = Answers::default();
        let waiting = Arc::clone(&answers);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let answer: Value = serde_json::from_str(&line).expect("the driver answers in JSON");
                let id = answer["id"].as_u64().expect("the id of the call");
                let result = match answer.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(answer["result"].clone()),
                };
                if let Some(waiter) = waiting.lock().unwrap().remove(&id) {
                    let _ = waiter.send(result);
                }
            }
            // Whoever still waits fails.
            waiting.lock().unwrap().clear();
        });
        Self { _child: child, calls: Mutex::new((0, stdin)), answers }
    }

    async fn call(&self, mut call: Value) -> Value {
        let (sender, answer) = oneshot::channel();
        {
            let mut calls = self.calls.lock().unwrap();
            calls.0 += 1;
            call["id"] = calls.0.into();
            self.answers.lock().unwrap().insert(calls.0, sender);
            writeln!(calls.1, "{call}").expect("the browser runs");
        }
        let answer = answer.await.unwrap_or_else(|_| Err("the browser has ended".to_owned()));
        answer.unwrap_or_else(|error| panic!("{call}: {error}"))
    }
}

/// A tab of the browser, in a window and with cookies of its own.
#[derive(Clone, Copy, Debug)]
pub struct Tab(u64);

/// The window of a tab.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `light` or `dark`.
    pub theme: &'static str,
    /// False for a browser without scripts.
    pub scripts: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { width: 1280, height: 800, theme: "light", scripts: true }
    }
}

/// Targets are selectors of playwright: `text=Fire now`, `table a`.
impl Tab {
    /// Opens a tab.
    pub async fn open(window: Window) -> Self {
        Self::with(window, Value::Null).await
    }

    /// Opens a tab with this tab's cookies.
    pub async fn again(&self, window: Window) -> Self {
        Self::with(window, self.0.into()).await
    }

    async fn with(window: Window, like: Value) -> Self {
        let Window { width, height, theme, scripts } = window;
        let mut call =
            json!({"call": "open", "width": width, "height": height, "theme": theme, "scripts": scripts});
        if !like.is_null() {
            call["like"] = like;
        }
        Self(BROWSER.call(call).await.as_u64().expect("a number"))
    }

    async fn call(&self, call: &str, mut with: Value) -> Value {
        with["call"] = call.into();
        with["tab"] = self.0.into();
        BROWSER.call(with).await
    }

    async fn text_of(&self, call: &str, with: Value) -> String {
        self.call(call, with).await.as_str().unwrap_or_default().to_owned()
    }

    /// Loads a page, and returns the status of the response.
    pub async fn goto(&self, url: &str) -> u64 {
        self.call("goto", json!({"url": url})).await.as_u64().expect("a status")
    }

    /// Clicks.
    pub async fn click(&self, target: &str) {
        self.call("click", json!({"target": target})).await;
    }

    /// Clicks twice, as fast as a user.
    pub async fn double_click(&self, target: &str) {
        self.call("click", json!({"target": target, "twice": true})).await;
    }

    /// Enters a text.
    pub async fn fill(&self, target: &str, value: &str) {
        self.call("fill", json!({"target": target, "value": value})).await;
    }

    /// Ticks a box.
    pub async fn check(&self, target: &str) {
        self.call("check", json!({"target": target})).await;
    }

    /// Selects an option.
    pub async fn select(&self, target: &str, value: &str) {
        self.call("select", json!({"target": target, "value": value})).await;
    }

    /// Sends a form that the page does not have.
    pub async fn send(&self, url: &str, fields: &[(&str, &str)]) {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        self.call("send", json!({"url": url, "fields": fields})).await;
    }

    /// Leaves the window, or returns to it.
    pub async fn focus(&self, has: bool) {
        self.call("focus", json!({"has": has})).await;
    }

    /// Presses a key, such as `Tab`.
    pub async fn press(&self, key: &str) {
        self.call("press", json!({"key": key})).await;
    }

    /// Returns the visible text of an element, as soon as it exists.
    pub async fn text(&self, target: &str) -> String {
        self.text_of("text", json!({"target": target})).await
    }

    /// Returns an attribute of an element.
    pub async fn attribute(&self, target: &str, name: &str) -> String {
        self.text_of("attribute", json!({"target": target, "value": name})).await
    }

    /// Counts elements.
    pub async fn count(&self, target: &str) -> u64 {
        self.call("count", json!({"target": target})).await.as_u64().expect("a number")
    }

    /// Waits until an element is visible.
    pub async fn visible(&self, target: &str) {
        self.call("visible", json!({"target": target})).await;
    }

    /// Returns the URL of the page.
    pub async fn url(&self) -> String {
        self.text_of("url", json!({})).await
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.call("reload", json!({})).await;
    }

    /// Returns the text or name of the focused element.
    pub async fn focused(&self) -> String {
        self.text_of("focused", json!({})).await
    }

    /// Returns the number of pixels by which the page is wider than the window.
    pub async fn overflow(&self) -> i64 {
        self.call("overflow", json!({})).await.as_i64().expect("a number")
    }

    /// Opens everything that can be unfolded.
    pub async fn unfold(&self) {
        self.call("unfold", json!({})).await;
    }

    /// Returns the number of lines that the text of an element has.
    pub async fn lines(&self, target: &str) -> u64 {
        self.call("lines", json!({"target": target})).await.as_u64().expect("a number")
    }

    /// Returns the violations that axe calls serious or critical.
    pub async fn accessibility(&self) -> Vec<String> {
        strings(&self.call("accessibility", json!({})).await)
    }

    /// Returns the errors of scripts, and the violations of the content security policy, since the tab was opened.
    pub async fn problems(&self) -> Vec<String> {
        strings(&self.call("problems", json!({})).await)
    }

    /// Takes a picture of the window, or of the whole page.
    pub async fn screenshot(&self, path: &Path, whole: bool) {
        self.call("screenshot", json!({"path": path, "whole": whole})).await;
    }

    /// Closes the tab.
    pub async fn close(self) {
        self.call("close", json!({})).await;
    }
}

fn strings(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

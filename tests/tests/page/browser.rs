//! Chromium without a window, driven by its DevTools protocol through two pipes: JSON messages, each
//! with a zero byte behind it.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    namespace::Namespace,
    patience,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
};

/// How long anything may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    replies: BufReader<PipeReader>,
    requests: PipeWriter,
    number: u64,
    session: Option<String>,
    /// What went wrong in the page so far.
    pub errors: Vec<String>,
    _process: Supervised,
    _profile: Directory,
}

impl Browser {
    /// Starts one in a network namespace.
    pub fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        let profile = Directory::new(&format!("chromium-{name}"));
        // It reads from descriptor 3 and writes to descriptor 4.
        let mut command = namespace.command("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "chromium"]);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        command.args(["--disable-features=Translate,MediaRouter", "--remote-debugging-pipe", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.0.display()));
        let (for_it, requests) = std::io::pipe()?;
        let (replies, from_it) = std::io::pipe()?;
        command.stdin(for_it).stdout(from_it);
        let process = Supervised::start(command, Printing::AsPrepared, Ending::after(Duration::from_secs(2)))?;
        let replies = BufReader::new(replies);
        let (errors, session) = (Vec::new(), None);
        let mut browser = Self { replies, requests, number: 0, session, errors, _process: process, _profile: profile };
        let target = browser.ask("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attached =
            browser.ask("Target.attachToTarget", &json!({"targetId": target["targetId"], "flatten": true}))?;
        browser.session = Some(attached["sessionId"].as_str().context("no session")?.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Asks for something, and waits for the answer.
    pub fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.number += 1;
        let mut request = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(request.to_string().as_bytes())?;
        self.requests.write_all(b"\0")?;
        loop {
            let mut message = Vec::new();
            self.replies.read_until(0, &mut message)?;
            ensure!(message.pop() == Some(0), "the browser has ended while it was asked for {method}");
            let mut message: Value = serde_json::from_slice(&message)?;
            if message["id"] == self.number {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].take());
            }
            self.hear(&message);
        }
    }

    /// Notes what went wrong.
    fn hear(&mut self, event: &Value) {
        let parameters = &event["params"];
        let wrong = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if matches!(parameters["type"].as_str(), Some("error" | "warning")) => {
                Some(parameters["args"].to_string())
            }
            Some("Log.entryAdded") if matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")) => {
                Some(parameters["entry"].to_string())
            }
            _ => None,
        };
        self.errors.extend(wrong);
    }

    /// A window of this size, in a light or a dark world.
    pub fn look(&mut self, (width, height): (u32, u32), scheme: &str) -> Result<()> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", &metrics)?;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", &json!({"features": features})).map(drop)
    }

    /// Goes to a page.
    pub fn go(&mut self, url: &str) -> Result<()> {
        let answer = self.ask("Page.navigate", &json!({"url": url}))?;
        ensure!(answer["errorText"].is_null(), "{url}: {}", answer["errorText"]);
        Ok(())
    }

    /// What an expression is in the page.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let mut answer = self
            .ask("Runtime.evaluate", &json!({"expression": expression, "returnByValue": true, "awaitPromise": true}))?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true in the page.
    pub fn wait_for(&mut self, expression: &str) -> Result<()> {
        let end = Instant::now() + patience(PATIENCE);
        // While a page is left for another one there may be nothing to ask.
        while !matches!(self.value(expression), Ok(Value::Bool(true))) {
            if Instant::now() > end {
                let text = self.value("document.body.innerText").unwrap_or_default();
                bail!("never true: {expression}\n{text}\n{:?}", self.errors);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowLeft" => 37,
            _ => bail!("no key {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" && kind == "keyDown" { "\r" } else { "" };
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.ask("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// A picture of the page, as PNG in base64: of the window, or of all of it.
    pub fn picture(&mut self, whole: bool) -> Result<String> {
        let answer = self.ask("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": whole}))?;
        Ok(answer["data"].as_str().context("no picture")?.to_owned())
    }
}

//! The HTTP API and the WebSocket as a program uses them.
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // reqwest asks for the process's provider even when it speaks plain HTTP.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

/// Runs a future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(15)).build().unwrap()
}

/// Status and body of a GET without credentials.
pub fn get_plain(url: &str) -> Result<(u16, String), String> {
    block_on(async {
        let reply = client().get(url).send().await.map_err(|e| e.to_string())?;
        let status = reply.status().as_u16();
        Ok((status, reply.text().await.map_err(|e| e.to_string())?))
    })
}

/// A reply in full.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.bytes)))
    }
}

/// A signed-in user of the API.
#[derive(Debug, Clone)]
pub struct Api {
    pub base: String,
    pub token: String,
}

impl Api {
    /// One-click sign-in, as `--dev` offers it.
    pub fn dev(base: &str, login: &str) -> Self {
        let mut api = Self { base: base.into(), token: String::new() };
        let reply = api.send("POST", "/v1/dev/sign-in", Some(json!({ "login": login })), &[]);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.bytes));
        api.token = reply.json()["access_token"].as_str().unwrap().to_owned();
        api
    }

    pub fn send(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Reply {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.send_bytes(method, path, bytes, headers)
    }

    pub fn send_bytes(&self, method: &str, path: &str, body: Option<Vec<u8>>, headers: &[(&str, &str)]) -> Reply {
        block_on(async {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = client().request(method, format!("{}{path}", self.base));
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body);
            }
            let reply = request.send().await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
            Reply { status, headers, bytes: reply.bytes().await.unwrap().to_vec() }
        })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, None, &[]);
        assert_eq!(reply.status, 200, "GET {path}: {}", String::from_utf8_lossy(&reply.bytes));
        reply.json()
    }

    /// The newest calls of the history.
    #[track_caller]
    pub fn calls(&self) -> Vec<Value> {
        self.get("/v1/calls?limit=50")["data"].as_array().cloned().unwrap_or_default()
    }
}

/// A WebSocket session of a page, driven by hand.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    pub events: Vec<Value>,
}

impl Socket {
    pub fn connect(base: &str) -> Result<Self, String> {
        let url = format!("{}/v1/ws", base.replacen("http", "ws", 1));
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
        request.headers_mut().insert("origin", base.parse().unwrap());
        let (stream, _) =
            block_on(tokio_tungstenite::connect_async_with_config(request, None, true)).map_err(|e| e.to_string())?;
        Ok(Self { stream, next_id: 0, events: Vec::new() })
    }

    /// Connects and says hello.
    #[track_caller]
    pub fn hello(api: &Api) -> (Self, Value) {
        let mut socket = Self::connect(&api.base).unwrap();
        socket.send_text(&json!({"op": "hello", "token": api.token}).to_string());
        let ready = socket.next(Duration::from_secs(5)).expect("no reply to hello");
        (socket, ready)
    }

    pub fn send_text(&mut self, text: &str) {
        let _ = block_on(self.stream.send(Message::text(text)));
    }

    /// The next frame as JSON; `None` when the socket is closed or nothing comes in time.
    pub fn next(&mut self, limit: Duration) -> Option<Value> {
        block_on(async {
            loop {
                match tokio::time::timeout(limit, self.stream.next()).await {
                    Ok(Some(Ok(Message::Text(text)))) => return serde_json::from_str(&text).ok(),
                    Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
                    Ok(Some(Ok(_))) => {}
                }
            }
        })
    }

    /// Waits until the server closes the socket, and returns how.
    pub fn closed(&mut self, limit: Duration) -> String {
        block_on(async {
            loop {
                match tokio::time::timeout(limit, self.stream.next()).await {
                    Ok(Some(Ok(Message::Close(frame)))) => return format!("closed {frame:?}"),
                    Ok(Some(Err(error))) => return format!("closed {error}"),
                    Ok(None) => return "closed".into(),
                    Ok(Some(Ok(_))) => {}
                    Err(_) => return "still open".into(),
                }
            }
        })
    }

    /// Sends a command and waits for its reply; events in between are kept.
    #[track_caller]
    pub fn command(&mut self, mut command: Value) -> Value {
        self.next_id += 1;
        command["id"] = json!(self.next_id);
        self.send_text(&command.to_string());
        loop {
            let frame = self.next(Duration::from_secs(15)).unwrap_or_else(|| panic!("no reply to {command}"));
            if frame["re"] == json!(self.next_id) {
                return frame;
            }
            self.events.push(frame);
        }
    }

    /// Waits for an event that fits.
    #[track_caller]
    pub fn event(&mut self, what: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(&fits) {
            return self.events.remove(at);
        }
        loop {
            let frame = self.next(limit).unwrap_or_else(|| panic!("no event {what}; others: {:?}", self.events));
            if fits(&frame) {
                return frame;
            }
            self.events.push(frame);
        }
    }
}

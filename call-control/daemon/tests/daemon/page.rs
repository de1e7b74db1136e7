//! A page as a program: one WebSocket, replies by id, events in order.
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Page {
    pub socket: Socket,
    pub ready: Value,
    events: VecDeque<Value>,
    next: u64,
    pub last_seq: u64,
}

pub async fn connect(address: SocketAddr, origin: Option<&str>) -> Result<Socket, u16> {
    let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The next text frame, or the close code.
pub async fn next(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match timeout(crate::stage::PATIENCE, socket.next()).await.expect("no frame came") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(0),
        }
    }
}

impl Page {
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        Self::hello(address, json!({ "op": "hello", "token": token })).await
    }

    pub async fn hello(address: SocketAddr, hello: Value) -> Self {
        let mut socket = connect(address, None).await.unwrap();
        socket.send(Message::text(hello.to_string())).await.unwrap();
        let ready = next(&mut socket).await.unwrap();
        assert_eq!(ready["type"], "ready", "{ready}");
        let last_seq = ready["seq"].as_u64().unwrap();
        Self { socket, ready, events: VecDeque::new(), next: 1, last_seq }
    }

    pub fn session(&self) -> String {
        self.ready["session"].as_str().unwrap().to_owned()
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Sends a command and waits for its reply; events on the way are kept.
    pub async fn command(&mut self, mut command: Value) -> Value {
        let id = self.next;
        self.next += 1;
        command["id"] = json!(id);
        self.send(command).await;
        self.reply(id).await
    }

    pub async fn reply(&mut self, id: u64) -> Value {
        loop {
            let frame = next(&mut self.socket).await.expect("the connection was closed");
            if frame["re"] == json!(id) {
                return frame;
            }
            self.keep(frame);
        }
    }

    fn keep(&mut self, frame: Value) {
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(seq, self.last_seq + 1, "events come without holes");
            self.last_seq = seq;
        }
        self.events.push_back(frame);
    }

    pub async fn ok(&mut self, command: Value) -> Value {
        let said = command.to_string();
        let reply = self.command(command).await;
        assert!(reply.get("ok").is_some(), "{said} was refused: {reply}");
        reply["ok"].clone()
    }

    pub async fn refused(&mut self, command: Value) -> Value {
        let said = command.to_string();
        let reply = self.command(command).await;
        assert!(reply.get("error").is_some(), "{said} was not refused: {reply}");
        reply["error"].clone()
    }

    /// The next event that fits; others on the way are passed over.
    pub async fn event(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            while let Some(event) = self.events.pop_front() {
                if fits(&event) {
                    return event;
                }
            }
            match next(&mut self.socket).await {
                Ok(frame) => self.keep(frame),
                Err(code) => panic!("closed with {code} while waiting for {what}"),
            }
        }
    }

    pub async fn ringing(&mut self) -> Value {
        self.event("an incoming call", |e| e["type"] == "call.updated" && e["data"]["my_leg"]["state"] == "ringing")
            .await["data"]
            .clone()
    }

    pub async fn state(&mut self, state: &str) -> Value {
        self.event(state, |e| e["data"]["state"] == state).await["data"].clone()
    }

    pub async fn ended(&mut self) -> Value {
        self.event("the end", |e| e["type"] == "call.ended").await["data"].clone()
    }

    pub async fn dial(&mut self, to: &str) -> String {
        let ok = self.ok(json!({ "op": "dial", "to": to })).await;
        ok["call"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn join(&mut self, call: &str) -> Value {
        self.ok(json!({ "op": "join", "call": call, "offer": "v=0 offer" })).await
    }

    /// Reads until the server has asked whether the page is there; true when the connection stands afterwards.
    pub async fn expect_silence_for_a_ping(&mut self) -> bool {
        loop {
            match timeout(crate::stage::PATIENCE, self.socket.next()).await.expect("no ping came") {
                Some(Ok(Message::Ping(_))) => break,
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    self.keep(frame);
                }
                _ => return false,
            }
        }
        self.socket.flush().await.is_ok()
    }

    /// Nothing more came for this page.
    pub async fn expect_silence(&mut self) {
        let sync = self.command(json!({ "op": "answer", "call": "none" })).await;
        assert!(sync.get("error").is_some());
        assert!(self.events.is_empty(), "{:?}", self.events);
    }
}

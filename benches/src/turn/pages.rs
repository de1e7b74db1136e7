//! Call-control's users as programs: each with a page's WebSocket, through which it calls, is called, and joins.
use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(15);

pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the page was told of TURN: user name and password.
    pub turn: (String, String),
    /// Came while a reply was awaited.
    kept: Vec<Value>,
    commands: u64,
}

impl Page {
    pub async fn open(server: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{server}/v1/ws")).await?;
        let mut page = Self { socket, turn: Default::default(), kept: Vec::new(), commands: 0 };
        page.say(&json!({ "op": "hello", "token": token })).await?;
        let ready = page.hear().await?;
        ensure!(ready["type"] == "ready", "a page was not let in: {ready}");
        let servers = ready["ice_servers"].as_array().context("ice_servers")?;
        let turn = servers.iter().find(|server| server["username"].is_string()).context("a TURN server for pages")?;
        let word = |name: &str| turn[name].as_str().map(str::to_owned).with_context(|| format!("{name} in {turn}"));
        page.turn = (word("username")?, word("credential")?);
        Ok(page)
    }

    /// Dials; the call's id.
    pub async fn dial(&mut self, extension: &str) -> anyhow::Result<String> {
        let dialled = self.command(json!({ "op": "dial", "to": extension })).await?;
        Ok(dialled["call"]["id"].as_str().context("the call's id")?.to_owned())
    }

    /// Answers what rings here.
    pub async fn answer(&mut self) -> anyhow::Result<()> {
        let rings = |event: &Value| event["type"] == "call.updated" && event["data"]["my_leg"]["state"] == "ringing";
        let call = loop {
            let event = match self.kept.pop() {
                Some(event) => event,
                None => self.hear().await?,
            };
            if rings(&event) {
                break event["data"]["id"].clone();
            }
        };
        self.command(json!({ "op": "answer", "call": call })).await?;
        Ok(())
    }

    /// Brings the offer of this page's media; the answer.
    pub async fn join(&mut self, call: &str, offer: &str) -> anyhow::Result<String> {
        let joined = self.command(json!({ "op": "join", "call": call, "offer": offer })).await?;
        Ok(joined["answer"].as_str().context("the answer's SDP")?.to_owned())
    }

    /// From now on events are heard and forgotten, and the server's pings are answered.
    pub async fn stay(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    async fn command(&mut self, mut command: Value) -> anyhow::Result<Value> {
        self.commands += 1;
        let id = json!(self.commands);
        command["id"] = id.clone();
        self.say(&command).await?;
        loop {
            let mut frame = self.hear().await?;
            if frame["re"] == id {
                ensure!(frame["ok"].is_object(), "{} was refused: {frame}", command["op"]);
                return Ok(frame["ok"].take());
            }
            self.kept.push(frame);
        }
    }

    async fn say(&mut self, frame: &Value) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(frame.to_string())).await?)
    }

    async fn hear(&mut self) -> anyhow::Result<Value> {
        loop {
            let frame =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.context("nothing came from call-control")?;
            match frame.context("call-control closed the WebSocket")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(why) => bail!("call-control closed the WebSocket: {why:?}"),
                _ => {}
            }
        }
    }
}

//! Call-control as the gateway sees it: stores facts, decides about incoming calls.

use offhook_bus::{Bus, Server, Target};
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::{DaemonKind, Fact, FactRecord, Request};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::PATIENCE;

pub struct Control {
    facts: mpsc::Receiver<FactRecord>,
    questions: mpsc::Receiver<RouteIncoming>,
    pub route: watch::Sender<IncomingRoute>,
}

impl Control {
    pub async fn start(bus: &Bus) -> Self {
        let server = bus.serve(DaemonKind::Control, Target::Any).await.unwrap();
        let (told, facts) = mpsc::channel(100);
        let (asked, questions) = mpsc::channel(100);
        let (route, decide) = watch::channel(IncomingRoute::Accept {
            call: offhook_contract::CallId::parse("call-in").unwrap(),
            leg: super::leg("leg-in"),
        });
        tokio::spawn(serve(server, told, asked, decide));
        Self { facts, questions, route }
    }

    /// The next fact, of whatever call.
    pub async fn fact(&mut self) -> Fact {
        timeout(PATIENCE, self.facts.recv()).await.expect("a fact").unwrap().fact
    }

    pub async fn question(&mut self) -> RouteIncoming {
        timeout(PATIENCE, self.questions.recv()).await.expect("a question").unwrap()
    }
}

async fn serve(
    mut server: Server,
    told: mpsc::Sender<FactRecord>,
    asked: mpsc::Sender<RouteIncoming>,
    decide: watch::Receiver<IncomingRoute>,
) {
    while let Some(incoming) = server.next().await {
        if incoming.name == StoreFact::NAME {
            let record = incoming.body::<StoreFact>().unwrap().record;
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
            told.send(record).await.unwrap();
        } else {
            let question = incoming.body::<RouteIncoming>().unwrap();
            incoming.reply::<RouteIncoming>(Ok(decide.borrow().clone()));
            asked.send(question).await.unwrap();
        }
    }
}

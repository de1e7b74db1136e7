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
    /// While true, no incoming call is decided about.
    pub thinking: watch::Sender<bool>,
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
        let (thinking, thought) = watch::channel(false);
        tokio::spawn(serve(server, told, asked, decide, thought));
        Self { facts, questions, route, thinking }
    }

    /// The next fact, of whatever call.
    pub async fn fact(&mut self) -> Fact {
        timeout(PATIENCE, self.facts.recv()).await.expect("a fact").unwrap().fact
    }

    /// The questions that came and were not looked at.
    pub fn questions_left(&mut self) -> Vec<RouteIncoming> {
        std::iter::from_fn(|| self.questions.try_recv().ok()).collect()
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
    thought: watch::Receiver<bool>,
) {
    while let Some(incoming) = server.next().await {
        if incoming.name == StoreFact::NAME {
            let record = incoming.body::<StoreFact>().unwrap().record;
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
            told.send(record).await.unwrap();
        } else {
            let question = incoming.body::<RouteIncoming>().unwrap();
            let (decide, mut thought) = (decide.clone(), thought.clone());
            asked.send(question).await.unwrap();
            tokio::spawn(async move {
                // An error means that the test is over.
                if thought.wait_for(|thinking| !thinking).await.is_ok() {
                    incoming.reply::<RouteIncoming>(Ok(decide.borrow().clone()));
                }
            });
        }
    }
}

//! What a server knows of its database, and how it hears of changes.
use super::{DatabasePlan, Poke, Rows, Watch};
use crate::plan::Plan;
use tokio::sync::mpsc;

/// The rows as they were read last, and the watch over the database, if there is one.
pub(crate) struct Kept {
    rows: Rows,
    watch: Option<Watch>,
    poke: Poke,
    changes: mpsc::Receiver<Rows>,
    changed: mpsc::Sender<Rows>,
}

impl Kept {
    /// Reads the plan's database and watches it from now on.
    pub(crate) async fn open(plan: &Plan) -> Self {
        let read = read(plan.database.as_ref()).await;
        let (changed, changes) = mpsc::channel(1);
        let mut kept =
            Self { rows: read.clone().unwrap_or_default(), watch: None, poke: Poke::default(), changes, changed };
        kept.watch(plan, read);
        kept
    }

    /// The same after the configuration was read again.
    pub(crate) async fn reopen(&mut self, plan: &Plan) {
        let is_same = self.watch.as_ref().map(|watch| &watch.plan) == plan.database.as_ref();
        match read(plan.database.as_ref()).await {
            Some(rows) => self.rows = rows,
            // It is away: who was known goes on.
            None if is_same => {}
            None => self.rows = Rows::default(),
        }
        self.watch = None;
        while self.changes.try_recv().is_ok() {}
        self.watch(plan, Some(self.rows.clone()));
    }

    fn watch(&mut self, plan: &Plan, known: Option<Rows>) {
        let start = |database| Watch::start(database, known, self.poke.clone(), self.changed.clone());
        self.watch = plan.database.clone().map(start);
        self.rows.desk = self.watch.as_ref().map(Watch::desk).unwrap_or_default();
    }

    /// Ends when the database says something else; [`Self::rows`] are those then.
    pub(crate) async fn changed(&mut self) {
        if let Some(rows) = self.changes.recv().await {
            let desk = std::mem::take(&mut self.rows.desk);
            self.rows = Rows { desk, ..rows };
        }
    }

    pub(crate) const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// For whoever sees that somebody cannot log in.
    pub(crate) fn poke(&self) -> Poke {
        self.poke.clone()
    }
}

/// `None`, and a line, when it is away; `None` without a line when there is none.
async fn read(database: Option<&DatabasePlan>) -> Option<Rows> {
    let database = database?;
    match database.read().await {
        Ok(rows) => {
            let (users, secrets) = (rows.users.len(), rows.secrets.len());
            tracing::info!(database = %database.source, users, secrets, "user database read");
            rows.remarks.iter().for_each(|remark| tracing::warn!(database = %database.source, "{remark}"));
            Some(rows)
        }
        Err(error) => {
            tracing::error!(database = %database.source, %error, "the user database cannot be read: known users go on");
            None
        }
    }
}

//! The handle that every part of a daemon holds.
use crate::in_process::{BusCut, InProcess};
use crate::lease::LeaseMemory;
use crate::subject::{InvalidCluster, Subjects};
use crate::transport::Transport;
use std::sync::Arc;
use tokio::sync::watch;

/// One connection to the control bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) subjects: Subjects,
    pub(crate) leases: LeaseMemory,
}

impl Bus {
    /// A bus inside this process. Clones of it are the same bus; two calls make two buses.
    pub fn in_process(cluster: &str) -> Result<Self, InvalidCluster> {
        Ok(Self::in_process_with_cut(cluster)?.0)
    }

    /// The same with a switch that takes the bus away and brings it back, for tests.
    pub fn in_process_with_cut(cluster: &str) -> Result<(Self, BusCut), InvalidCluster> {
        let subjects = Subjects::new(cluster)?;
        let (transport, cut) = InProcess::new();
        Ok((Self::over(Box::new(transport), subjects), cut))
    }

    pub(crate) fn over(transport: Box<dyn Transport>, subjects: Subjects) -> Self {
        Self { inner: Arc::new(Inner { transport, subjects, leases: LeaseMemory::default() }) }
    }

    /// Whether the bus can carry messages now.
    pub fn is_connected(&self) -> watch::Receiver<bool> {
        self.inner.transport.connected()
    }

    /// Messages this handle's receivers lost because they were slow.
    pub fn dropped_messages(&self) -> u64 {
        self.inner.transport.dropped()
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("subjects", &self.inner.subjects).finish_non_exhaustive()
    }
}

//! Media threads: each owns its legs' sockets and state, and runs every packet to completion. No tokio, no lock and no
//! allocation per packet; orders come over a bounded queue with a waker, news goes back over a bounded channel.

mod counters;
mod link_port;
mod pool;
mod ports;
mod route;
mod slot;
#[cfg(test)]
mod tests;
mod thread;

pub use counters::{MediaCounters, MediaCounts};
pub use link_port::{LinkError, LinkPort};
pub use pool::{MediaPool, PoolError};
pub use ports::{PortPair, PortRange, PortsError};
pub use route::{NoRoute, local_address_towards};
pub use thread::{LegKey, MediaNews, MediaOrder, News};

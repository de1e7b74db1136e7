//! What only a real nats-server can prove: the sample configuration's permissions, TLS, and every kind of credential.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod credentials;
mod permissions;
mod server;

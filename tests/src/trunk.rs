//! A carrier's trunk on loopback, as an operator writes it.
use crate::ports;
use std::net::UdpSocket;

/// Our own number on the trunk.
pub const OUR_NUMBER: &str = "+4930555100";
/// A telephone that may be called.
pub const TELEPHONE: &str = "+15551230000";

#[derive(Debug, Clone)]
pub struct Trunk {
    pub port: u16,
    account: Option<(String, String)>,
    emergency: bool,
}

impl Trunk {
    /// A carrier that knows us by our address.
    pub fn on_loopback() -> Self {
        Self { port: ports::free(), account: None, emergency: false }
    }

    pub fn with_account(mut self, user: &str, password: &str) -> Self {
        self.account = Some((user.into(), password.into()));
        self
    }

    pub fn for_emergencies(mut self) -> Self {
        self.emergency = true;
        self
    }

    /// The lines of `offhook.toml`, with what may be dialled.
    pub fn config(&self) -> String {
        let account = self.account.as_ref();
        let account = account.map_or_else(String::new, |(u, p)| format!("username = \"{u}\"\npassword = \"{p}\"\n"));
        format!(
            "[dial]\nallowed_prefixes = [\"+1555\"]\n\n[[trunk]]\nname = \"carrier\"\ntenant = \"{}\"\naddress = \"127.0.0.1:{}\"\n\
             {account}codecs = [\"pcmu\", \"pcma\"]\nnumbers = [\"{OUR_NUMBER}\"]\nkeep_alive_s = 0\nemergency = {}\n",
            super::stack::TENANT,
            self.port,
            self.emergency,
        )
    }

    /// A carrier that takes every request and says nothing.
    pub fn silent(&self) -> UdpSocket {
        UdpSocket::bind(("127.0.0.1", self.port)).unwrap()
    }
}

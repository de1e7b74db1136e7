//! Trunks as they stand now: their addresses resolved, the socket that faces them, up or down.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use offhook_contract::node::TrunkState;
use offhook_contract::{CodecName, TrunkName};
use offhook_runtime::config::Net;
use offhook_sip_core::trunk::{Cidr, Credentials, TrunkConfig};
use offhook_wire_sdp::telephony::Codec;

use crate::config::{Config, TrunkPlan};
use crate::media::local_address_towards;

/// A name server that says nothing must not hold up the others.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a trunk cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrunkTrouble {
    #[error("its address cannot be resolved")]
    Unresolved,
    #[error("there is no route to its address")]
    NoRoute,
    #[error("it is reached from {0}, where nothing of ours listens; restart to listen there")]
    NoSocket(IpAddr),
}

/// One trunk with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub plan: TrunkPlan,
    pub place: Result<Place, TrunkTrouble>,
}

/// Where a trunk is and from where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub proxy: SocketAddr,
    /// All addresses of its name; each may speak for it.
    pub addresses: Vec<IpAddr>,
    pub local: SocketAddr,
}

/// Resolves every trunk. The addresses of names are looked up at the same time.
pub async fn resolve(config: &Config) -> Vec<Resolved> {
    let mut lookups = Vec::new();
    for plan in &config.trunks {
        let (plan, port, listen) = (plan.clone(), config.port, config.listen.clone());
        lookups.push(tokio::spawn(async move {
            let place = place(&plan, port, &listen).await;
            Resolved { plan, place }
        }));
    }
    let mut found = Vec::new();
    for lookup in lookups {
        // A lookup never panics; if it did, its trunk would be missing until the next round.
        found.extend(lookup.await.ok());
    }
    found
}

async fn place(plan: &TrunkPlan, port: u16, listen: &[SocketAddr]) -> Result<Place, TrunkTrouble> {
    let lookup = tokio::net::lookup_host((plan.host.as_str(), plan.port));
    let found: Vec<SocketAddr> = match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => return Err(TrunkTrouble::Unresolved),
    };
    if found.is_empty() {
        return Err(TrunkTrouble::Unresolved);
    }
    let reached = found.iter().find_map(|to| local_address_towards(*to).ok().map(|local| (*to, local)));
    let (proxy, local) = reached.ok_or(TrunkTrouble::NoRoute)?;
    let port = listen.iter().find(|a| a.ip() == local).map_or(port, SocketAddr::port);
    let addresses = found.iter().map(SocketAddr::ip).collect();
    Ok(Place { proxy, addresses, local: SocketAddr::new(local, port) })
}

/// The sockets that the configuration and the trunks' routes ask for.
pub fn wanted_sockets(config: &Config, trunks: &[Resolved]) -> Vec<SocketAddr> {
    let mut wanted = config.listen.clone();
    for place in trunks.iter().filter_map(|t| t.place.as_ref().ok()) {
        if !wanted.contains(&place.local) {
            wanted.push(place.local);
        }
    }
    wanted
}

impl Resolved {
    /// As SIP wants it; nothing for a trunk that cannot be used.
    pub fn sip(&self) -> Option<TrunkConfig> {
        let (plan, place) = (&self.plan, self.place.as_ref().ok()?);
        let single = place.addresses.iter().filter_map(|ip| ip.to_string().parse::<Cidr>().ok());
        Some(TrunkConfig {
            name: plan.name.clone(),
            tenant: plan.tenant.clone(),
            proxy: place.proxy,
            sources: plan.sources.iter().copied().chain(single).collect(),
            domain: plan.domain.clone(),
            credentials: plan.account.as_ref().map(|a| Credentials {
                username: a.username.clone(),
                password: a.password.clone(),
                realm: a.realm.clone(),
            }),
            codecs: plan.codecs.iter().filter_map(|c| sdp_codec(*c)).collect(),
            numbers: plan.numbers.clone(),
            numbering: plan.numbering.clone(),
            caller_id: plan.caller_id.clone(),
            from: plan.from.clone(),
            asserted: plan.asserted,
            registration: plan.registration,
            keep_alive: plan.keep_alive,
            local: place.local,
        })
    }

    /// The address of ours that its media uses, and how others reach it.
    pub fn media_addresses(&self, net: &Net) -> Option<(IpAddr, IpAddr)> {
        let local = self.place.as_ref().ok()?.local.ip();
        Some((local, net.announced(local)))
    }
}

/// Opus has no place on a trunk.
pub const fn sdp_codec(codec: CodecName) -> Option<Codec> {
    match codec {
        CodecName::Pcma => Some(Codec::Pcma),
        CodecName::Pcmu => Some(Codec::Pcmu),
        CodecName::Opus => None,
    }
}

/// Which trunks are up, for presence and inventory.
#[derive(Debug, Default)]
pub struct Health {
    states: Vec<TrunkState>,
}

impl Health {
    /// Takes a new list. A trunk whose carrier is never asked counts as up; what was known of the others stays.
    pub fn replace(&mut self, trunks: &[Resolved]) {
        let known = std::mem::take(&mut self.states);
        self.states = trunks
            .iter()
            .map(|t| {
                let before = known.iter().find(|s| s.trunk == t.plan.name).map(|s| s.up);
                let unasked = t.plan.registration.is_none() && t.plan.keep_alive.is_none();
                let up = t.place.is_ok() && before.unwrap_or(unasked);
                TrunkState { trunk: t.plan.name.clone(), up, emergency: t.plan.emergency }
            })
            .collect();
    }

    /// True if this changed anything.
    pub fn set(&mut self, trunk: &TrunkName, up: bool) -> bool {
        let state = self.states.iter_mut().find(|s| s.trunk == *trunk);
        state.is_some_and(|s| std::mem::replace(&mut s.up, up) != up)
    }

    pub fn states(&self) -> Vec<TrunkState> {
        self.states.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_runtime::ConfigFile;

    fn config(text: &str) -> Config {
        Config::read(&ConfigFile::parse("offhook.toml", text, []).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_trunk_is_reached_from_the_address_that_routes_to_it() {
        let text =
            "[sip]\nlisten = [\"127.0.0.1:5077\"]\n[[trunk]]\nname = \"a\"\ntenant = \"t\"\naddress = \"127.0.0.9\"\n";
        let config = config(text);
        let trunks = resolve(&config).await;
        let place = trunks[0].place.clone().unwrap();
        assert_eq!(place.proxy, "127.0.0.9:5060".parse().unwrap());
        assert!(place.local.ip().is_loopback());
        assert!(wanted_sockets(&config, &trunks).iter().all(|s| s.port() == 5_077));
        let sip = trunks[0].sip().unwrap();
        assert!(sip.sources.iter().any(|s| s.contains("127.0.0.9".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_a_trunk_that_is_down() {
        let config = config("[[trunk]]\nname = \"a\"\ntenant = \"t\"\naddress = \"no-such-host.invalid\"\n");
        let trunks = resolve(&config).await;
        assert_eq!(trunks[0].place, Err(TrunkTrouble::Unresolved));
        assert!(trunks[0].sip().is_none());
        let mut health = Health::default();
        health.replace(&trunks);
        assert!(!health.states()[0].up);
    }

    #[tokio::test]
    async fn health_keeps_what_is_known_over_a_reload() {
        let text = "[[trunk]]\nname = \"a\"\ntenant = \"t\"\naddress = \"127.0.0.1\"\n[[trunk]]\nname = \"b\"\ntenant = \"t\"\naddress = \"127.0.0.1\"\nkeep_alive_s = 0\n";
        let trunks = resolve(&config(text)).await;
        let mut health = Health::default();
        health.replace(&trunks);
        let up = |h: &Health| h.states().iter().map(|s| s.up).collect::<Vec<_>>();
        assert_eq!(up(&health), [false, true], "the asked one waits for an answer");
        assert!(health.set(&trunks[0].plan.name, true));
        assert!(!health.set(&trunks[0].plan.name, true));
        health.replace(&trunks);
        assert_eq!(up(&health), [true, true]);
    }
}

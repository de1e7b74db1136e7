//! Names: the node's, chosen or made from the host's name, and the boot's, new at each start.
use offhook_contract::{BootId, DaemonKind, NodeId};

pub(crate) fn new_boot() -> BootId {
    BootId::from_uuid(uuid::Uuid::now_v7())
}

/// The configured name, else the host's; with the daemon's kind behind it, because one host may run several.
pub(crate) fn node_id(configured: Option<&str>, kind: DaemonKind) -> NodeId {
    let host = configured.map(str::to_owned).unwrap_or_else(host_name);
    let word: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(48)
        .collect();
    let name = if word.is_empty() { kind.to_string() } else { format!("{word}-{kind}") };
    NodeId::parse(name).unwrap_or_else(|_| NodeId::from_uuid(uuid::Uuid::now_v7()))
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let short = name.nodename().to_string_lossy().split('.').next().unwrap_or_default().trim().to_owned();
    if short.is_empty() { "node".to_owned() } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_makes_a_name_that_fits_a_subject() {
        assert_eq!(node_id(Some("media-1.example.org"), DaemonKind::Sfu).as_str(), "media-1-example-org-sfu");
        assert_eq!(node_id(Some(""), DaemonKind::Sip).as_str(), "sip");
        assert!(node_id(Some(&"é".repeat(300)), DaemonKind::Control).as_str().len() <= 64);
    }
}

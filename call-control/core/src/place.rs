//! Which node takes what: ready ones only, the least loaded first.
use crate::policy::{Policy, TrunkRule};
use offhook_contract::node::NodeState;
use offhook_contract::{DaemonKind, NodeId, NodeRow, TenantId, TrunkName};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Nodes(BTreeMap<NodeId, NodeRow>);

/// Where an outbound telephone call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub gateway: NodeId,
    pub trunk: TrunkName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoCarrier {
    /// The tenant has no trunk (of the asked kind).
    NoTrunk,
    /// There is one, and no gateway has it up.
    Down,
}

impl Nodes {
    /// Takes the new table; returns the nodes that are new, and (`true`) those that were started anew.
    pub fn replace(&mut self, rows: Vec<NodeRow>) -> Vec<(NodeId, DaemonKind, bool)> {
        let former = std::mem::take(&mut self.0);
        let mut fresh = Vec::new();
        for row in rows {
            match former.get(&row.node) {
                Some(old) if old.boot == row.boot => {}
                old => fresh.push((row.node.clone(), row.kind, old.is_some())),
            }
            self.0.insert(row.node.clone(), row);
        }
        fresh
    }

    pub fn get(&self, node: &NodeId) -> Option<&NodeRow> {
        self.0.get(node)
    }
    pub fn all(&self) -> impl Iterator<Item = &NodeRow> {
        self.0.values()
    }

    fn ready(&self, kind: DaemonKind) -> impl Iterator<Item = &NodeRow> {
        self.0.values().filter(move |n| n.kind == kind && n.state == NodeState::Ready && n.load < n.capacity)
    }

    pub fn least_loaded(&self, kind: DaemonKind, except: &[NodeId]) -> Option<&NodeRow> {
        let share = |n: &NodeRow| u64::from(n.load) * 1_000_000 / u64::from(n.capacity.max(1));
        self.ready(kind).filter(|n| !except.contains(&n.node)).min_by_key(|n| share(n))
    }

    /// The same among those that are full, too.
    pub fn least_loaded_of_all(&self, kind: DaemonKind) -> Option<&NodeRow> {
        self.0.values().filter(|n| n.kind == kind && n.state == NodeState::Ready).min_by_key(|n| n.load)
    }

    /// A gateway with one of the tenant's trunks up. An emergency call is tried on a trunk that looks down, too.
    pub fn carrier(&self, policy: &Policy, tenant: &TenantId, emergency: bool) -> Result<Carrier, NoCarrier> {
        let rules: Vec<&TrunkRule> = policy.trunks_of(tenant).filter(|t| !emergency || t.emergency).collect();
        if rules.is_empty() {
            return Err(NoCarrier::NoTrunk);
        }
        let states =
            self.0.values().filter(|n| n.kind == DaemonKind::Sip && n.state == NodeState::Ready).flat_map(|n| {
                let has_room = n.load < n.capacity || emergency;
                n.trunks.iter().filter(move |_| has_room).map(move |t| (n, t))
            });
        let place = |rule: &TrunkRule| rules.iter().position(|r| r.name == rule.name);
        let candidates = states.filter_map(|(node, state)| {
            let rule = rules.iter().find(|r| r.name == state.trunk)?;
            (state.up || emergency).then_some((!state.up, place(rule), node.load, node, rule))
        });
        candidates
            .min_by_key(|(down, place, load, ..)| (*down, *place, *load))
            .map(|(_, _, _, node, rule)| Carrier { gateway: node.node.clone(), trunk: rule.name.clone() })
            .ok_or(NoCarrier::Down)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use offhook_contract::node::TrunkState;
    use offhook_contract::{BootId, UnixMs};

    pub(crate) fn node(kind: DaemonKind, name: &str, load: u32) -> NodeRow {
        NodeRow {
            node: NodeId::parse(name).unwrap(),
            kind,
            boot: BootId::parse(format!("{name}-boot")).unwrap(),
            version: "0".into(),
            started_ms: UnixMs(0),
            state: NodeState::Ready,
            load,
            capacity: 100,
            media_addresses: Vec::new(),
            certificate_fingerprint: Some("aa".into()),
            trunks: Vec::new(),
        }
    }

    pub(crate) fn trunk(name: &str, up: bool, emergency: bool) -> TrunkState {
        TrunkState { trunk: TrunkName::parse(name).unwrap(), up, emergency }
    }

    fn nodes(rows: Vec<NodeRow>) -> Nodes {
        let mut nodes = Nodes::default();
        nodes.replace(rows);
        nodes
    }

    fn policy() -> Policy {
        let rule = |name: &str, tenant: &str, emergency| TrunkRule {
            name: TrunkName::parse(name).unwrap(),
            tenant: TenantId::parse(tenant).unwrap(),
            emergency,
        };
        Policy {
            trunks: vec![rule("t1", "a", false), rule("t2", "a", true), rule("t3", "b", false)],
            ..Policy::default()
        }
    }

    #[test]
    fn the_least_loaded_ready_node_takes_a_room() {
        let mut draining = node(DaemonKind::Sfu, "s3", 0);
        draining.state = NodeState::Draining;
        let full = NodeRow { load: 100, ..node(DaemonKind::Sfu, "s4", 0) };
        let table = nodes(vec![node(DaemonKind::Sfu, "s1", 7), node(DaemonKind::Sfu, "s2", 3), draining, full]);
        let pick = |except: &[NodeId]| table.least_loaded(DaemonKind::Sfu, except).map(|n| n.node.as_str().to_owned());
        assert_eq!(pick(&[]), Some("s2".into()));
        assert_eq!(pick(&[NodeId::parse("s2").unwrap()]), Some("s1".into()));
    }

    #[test]
    fn a_tenant_dials_over_its_own_trunks_only_and_emergencies_over_the_marked_one() {
        let mut gateway = node(DaemonKind::Sip, "g1", 0);
        gateway.trunks = vec![trunk("t1", true, false), trunk("t2", false, true), trunk("t3", true, false)];
        let table = nodes(vec![gateway]);
        let pick = |tenant: &str, emergency| {
            table.carrier(&policy(), &TenantId::parse(tenant).unwrap(), emergency).map(|c| c.trunk.as_str().to_owned())
        };
        assert_eq!(pick("a", false), Ok("t1".into()));
        assert_eq!(pick("b", false), Ok("t3".into()));
        assert_eq!(pick("a", true), Ok("t2".into()), "an emergency is tried on a trunk that looks down");
        assert_eq!(pick("b", true), Err(NoCarrier::NoTrunk));
        assert_eq!(pick("c", false), Err(NoCarrier::NoTrunk));
    }

    #[test]
    fn a_trunk_that_is_down_everywhere_is_named_as_such() {
        let mut gateway = node(DaemonKind::Sip, "g1", 0);
        gateway.trunks = vec![trunk("t3", false, false)];
        let table = nodes(vec![gateway]);
        assert_eq!(table.carrier(&policy(), &TenantId::parse("b").unwrap(), false), Err(NoCarrier::Down));
    }
}

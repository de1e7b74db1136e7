//! What a reload can change, and what has to wait for a restart.
use offhook_turn_core::conf::Conf;

/// Takes over from `running` what is fixed once the server runs, and names each option that was to change.
///
/// What stays must stay in the policy too: sockets that are protected are those that are open.
pub(crate) fn keep_fixed(running: &Conf, wanted: &mut Conf) -> Vec<&'static str> {
    let mut kept = Vec::new();
    macro_rules! fixed {
        ($($name:literal: $($field:ident).+,)*) => {$(
            if wanted.$($field).+ != running.$($field).+ {
                wanted.$($field).+.clone_from(&running.$($field).+);
                kept.push($name);
            }
        )*};
    }
    fixed! {
        "listening-port": listening_port,
        "tls-listening-port": tls_listening_port,
        "alt-listening-port": alt_listening_port,
        "alt-tls-listening-port": alt_tls_listening_port,
        "listening-ip": listening_ips,
        "aux-server": aux_servers,
        "relay-ip": relay_ips,
        "external-ip": external_ips,
        "min-port": min_port,
        "max-port": max_port,
        "relay-threads": relay_threads,
        "no-udp": no_udp,
        "no-tcp": no_tcp,
        "no-tls": no_tls,
        "no-dtls": no_dtls,
        "pidfile": pidfile,
        "proc-user": proc_user,
        "proc-group": proc_group,
        "prometheus": prometheus.enabled,
        "prometheus-port": prometheus.port,
        "prometheus-address": prometheus.address,
        "prometheus-path": prometheus.path,
    }
    // Other files serve new connections; whether there is TLS at all is decided once.
    let has_tls = |conf: &Conf| conf.cert.is_some() && conf.pkey.is_some();
    if has_tls(wanted) != has_tls(running) {
        wanted.cert.clone_from(&running.cert);
        wanted.pkey.clone_from(&running.pkey);
        kept.push("cert");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_turn_core::conf::Reading;

    fn conf(text: &str) -> Conf {
        let mut reading = Reading::default();
        reading.add_file(text);
        reading.conf
    }

    #[test]
    fn what_is_bound_stays_and_is_named() {
        let running = conf("listening-ip=192.0.2.1\nlistening-port=1\nuser=a:b\nprometheus\n");
        let mut wanted = conf("listening-ip=192.0.2.2\nlistening-port=1\nuser=c:d\nmax-bps=7\n");
        assert_eq!(keep_fixed(&running, &mut wanted), ["listening-ip", "prometheus"]);
        assert_eq!((&wanted.listening_ips, wanted.max_bps, &*wanted.users[0].name), (&running.listening_ips, 7, "c"));
        assert!(keep_fixed(&running, &mut running.clone()).is_empty());
    }
}

//! Every timer by its name, on the bare machines.

use super::*;

fn run(step: impl FnOnce(&mut Effects)) -> Effects {
    let mut fx = Effects::default();
    step(&mut fx);
    fx
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn timer_a_doubles_and_timer_b_gives_up() {
    let mut fx = Effects::default();
    let mut invite = ClientInvite::start(&mut fx);
    assert!(fx.send);
    assert_eq!(fx.arm, [(Timer::A, ms(500)), (Timer::B, ms(32_000))]);
    for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000] {
        let fx = run(|fx| invite.on_timer(Timer::A, fx));
        assert!(fx.send);
        assert_eq!(fx.arm, [(Timer::A, ms(pause))]);
    }
    let fx = run(|fx| invite.on_timer(Timer::B, fx));
    assert!(fx.timed_out && fx.done && !fx.send);
    assert_eq!(invite, ClientInvite::Terminated);
}

#[test]
fn a_provisional_stops_timers_a_and_b() {
    let mut invite = ClientInvite::start(&mut Effects::default());
    let fx = run(|fx| invite.on_response(100, fx));
    assert_eq!((fx.disarm, fx.deliver, invite), (vec![Timer::A, Timer::B], true, ClientInvite::Proceeding));
    assert_eq!(run(|fx| invite.on_timer(Timer::B, fx)), Effects::default());
}

#[test]
fn timer_d_absorbs_repeated_refusals_and_acknowledges_each() {
    let mut invite = ClientInvite::start(&mut Effects::default());
    let fx = run(|fx| invite.on_response(486, fx));
    assert!(fx.ack && fx.deliver);
    assert_eq!(fx.arm, [(Timer::D, ms(32_000))]);
    let fx = run(|fx| invite.on_response(486, fx));
    assert!(fx.ack && !fx.deliver);
    assert!(run(|fx| invite.on_timer(Timer::D, fx)).done);
}

#[test]
fn timer_m_lets_forked_2xx_through() {
    let mut invite = ClientInvite::start(&mut Effects::default());
    assert_eq!(run(|fx| invite.on_response(200, fx)).arm, [(Timer::M, ms(32_000))]);
    assert!(run(|fx| invite.on_response(200, fx)).deliver);
    assert_eq!(run(|fx| invite.on_response(486, fx)), Effects::default());
    assert!(run(|fx| invite.on_timer(Timer::M, fx)).done);
}

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_gives_up() {
    let mut fx = Effects::default();
    let mut bye = ClientNonInvite::start(&mut fx);
    assert_eq!(fx.arm, [(Timer::E, ms(500)), (Timer::F, ms(32_000))]);
    for pause in [1_000, 2_000, 4_000, 4_000] {
        assert_eq!(run(|fx| bye.on_timer(Timer::E, fx)).arm, [(Timer::E, ms(pause))]);
    }
    assert_eq!(run(|fx| bye.on_response(100, fx)).arm, [(Timer::E, T2)]);
    assert_eq!(run(|fx| bye.on_timer(Timer::E, fx)).arm, [(Timer::E, T2)]);
    assert!(run(|fx| bye.on_timer(Timer::F, fx)).timed_out);
}

#[test]
fn timer_k_absorbs_repeated_responses() {
    let mut bye = ClientNonInvite::start(&mut Effects::default());
    assert_eq!(run(|fx| bye.on_response(200, fx)).arm, [(Timer::K, T4)]);
    assert_eq!(run(|fx| bye.on_response(200, fx)), Effects::default());
    assert!(run(|fx| bye.on_timer(Timer::K, fx)).done);
}

#[test]
fn timer_g_repeats_a_refusal_and_timer_h_gives_up_on_the_ack() {
    let mut invite = ServerInvite::Proceeding;
    let fx = run(|fx| assert!(invite.respond(486, fx)));
    assert_eq!(fx.arm, [(Timer::G, ms(500)), (Timer::H, ms(32_000))]);
    for pause in [1_000, 2_000, 4_000, 4_000] {
        let fx = run(|fx| invite.on_timer(Timer::G, fx));
        assert!(fx.send);
        assert_eq!(fx.arm, [(Timer::G, ms(pause))]);
    }
    let fx = run(|fx| invite.on_timer(Timer::H, fx));
    assert!(fx.timed_out && fx.done);
}

#[test]
fn timer_i_absorbs_repeated_acks() {
    let mut invite = ServerInvite::Proceeding;
    run(|fx| assert!(invite.respond(603, fx)));
    let fx = run(|fx| invite.on_ack(fx));
    assert_eq!((fx.disarm, fx.arm), (vec![Timer::G, Timer::H], vec![(Timer::I, T4)]));
    assert_eq!(run(|fx| invite.on_ack(fx)), Effects::default());
    assert_eq!(run(|fx| invite.on_repeat(fx)), Effects::default());
    assert!(run(|fx| invite.on_timer(Timer::I, fx)).done);
}

#[test]
fn timer_l_absorbs_repeated_invites_after_a_2xx() {
    let mut invite = ServerInvite::Proceeding;
    assert_eq!(run(|fx| assert!(invite.respond(200, fx))).arm, [(Timer::L, ms(32_000))]);
    assert_eq!(run(|fx| invite.on_repeat(fx)), Effects::default());
    assert!(run(|fx| invite.on_ack(fx)).deliver);
    assert!(!invite.respond(486, &mut Effects::default()), "a refusal comes too late");
    assert!(run(|fx| invite.on_timer(Timer::L, fx)).done);
}

#[test]
fn timer_j_repeats_the_response_to_repeated_requests() {
    let mut options = ServerNonInvite::Trying;
    assert_eq!(run(|fx| options.on_repeat(fx)), Effects::default());
    assert_eq!(run(|fx| assert!(options.respond(200, fx))).arm, [(Timer::J, ms(32_000))]);
    assert!(run(|fx| options.on_repeat(fx)).send);
    assert!(!options.respond(200, &mut Effects::default()));
    assert!(run(|fx| options.on_timer(Timer::J, fx)).done);
}

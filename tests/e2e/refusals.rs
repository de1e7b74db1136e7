//! Every way in which a call does not come about: the page's words, the log's cause, and nothing left behind.
use crate::desk::Desk;
use offhook_contract::HangupCause;
use offhook_tests::browser::{says, text};
use offhook_tests::sipp::Carrier;
use offhook_tests::stack::Plan;
use offhook_tests::trunk::{TELEPHONE, Trunk};
use offhook_tests::wait::secs;
use offhook_tests::{Sipp, Softphone, Stack, story};

#[test]
fn a_telephone_that_does_not_take_the_call_is_told_in_words() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        let who = TELEPHONE;
        let table = [
            ("486 Busy Here", HangupCause::Busy, format!("{who} is busy.")),
            ("480 Temporarily Unavailable", HangupCause::NoAnswer, format!("{who} did not answer.")),
            ("603 Decline", HangupCause::Rejected, format!("{who} declined the call.")),
            ("404 Not Found", HangupCause::NotFound, "This number or extension does not exist.".into()),
            ("503 Service Unavailable", HangupCause::Congestion, "The telephone network is overloaded.".into()),
        ];
        for (status, cause, words) in table {
            let carrier = Carrier { refuse: Some(status.into()), ..Carrier::default() };
            let mut sipp = Sipp::carrier(desk.stack.folder.path(), desk.trunk.port, &carrier);
            desk.alice.dial(who);
            let place = if cause == HangupCause::Congestion { "alert" } else { "status" };
            desk.alice.wait_for(&says(place, &words), secs(15));
            assert!(sipp.finish(secs(10)), "{status}: {}", sipp.messages());
            desk.logged(cause);
        }
        desk.holds_nothing_more();
    });
}

#[test]
fn a_colleague_who_does_not_answer_or_declines_or_is_away_is_told_in_words() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        desk.alice.dial("102");
        desk.alice.wait_for(&text("Bob is not signed in anywhere."), secs(15));
        desk.logged(HangupCause::Offline);
        desk.alice.dial("199");
        desk.alice.wait_for(&text("This number or extension does not exist."), secs(15));
        desk.logged(HangupCause::NotFound);
        {
            let mut bob = Softphone::sign_in(&desk.stack, "Bob", 620);
            desk.alice.dial("102");
            bob.wait_for(&says("alertdialog", "Alice"), secs(10));
            desk.alice.wait_for(&says("status", "Bob did not answer."), secs(15));
            bob.wait_for(&says("status", "Missed call from Alice."), secs(5));
            desk.logged(HangupCause::NoAnswer);
            desk.alice.dial("102");
            bob.click(&offhook_tests::browser::role("button", "Decline"));
            desk.alice.wait_for(&says("status", "Bob declined the call."), secs(10));
            bob.wait_for(&says("status", "You declined the call."), secs(5));
            desk.logged(HangupCause::Rejected);
            desk.alice.dial("102");
            bob.wait_for(&says("alertdialog", "Alice"), secs(10));
            desk.alice.click(&offhook_tests::browser::role("button", "Cancel call"));
            bob.wait_for(&says("status", "Missed call from Alice."), secs(10));
            desk.alice.wait_for(&says("status", "You cancelled the call."), secs(5));
            desk.logged(HangupCause::Cancelled);
        }
        desk.holds_nothing_more();
    });
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_carrier() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        let carrier = Carrier { ring: Some(secs(20)), expect_cancel: true, ..Carrier::default() };
        let mut sipp = Sipp::carrier(desk.stack.folder.path(), desk.trunk.port, &carrier);
        desk.alice.dial(TELEPHONE);
        desk.alice.wait_for(&says("status", "Ringing"), secs(10));
        desk.alice.click(&offhook_tests::browser::role("button", "Cancel call"));
        desk.alice.wait_for(&says("status", "You cancelled the call."), secs(10));
        assert!(sipp.finish(secs(10)), "{}", sipp.messages());
        desk.logged(HangupCause::Cancelled);
        desk.holds_nothing_more();
    });
}

#[test]
fn a_carrier_that_says_nothing_is_told_in_words() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        let silence = desk.trunk.silent();
        desk.alice.dial(TELEPHONE);
        desk.alice.wait_for(&says("alert", "The telephone network cannot be reached"), secs(20));
        desk.logged(HangupCause::CarrierUnavailable);
        drop(silence);
        desk.holds_nothing_more();
    });
}

#[test]
fn a_wrong_trunk_password_is_told_in_words() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback().with_account("offhook", "wrong"));
        let carrier = Carrier { digest: Some(("offhook".into(), "right".into())), ..Carrier::default() };
        let mut sipp = Sipp::carrier(desk.stack.folder.path(), desk.trunk.port, &carrier);
        desk.alice.dial(TELEPHONE);
        desk.alice.wait_for(&says("alert", "The telephone carrier did not accept this system's password"), secs(15));
        assert!(sipp.finish(secs(10)), "{}", sipp.messages());
        desk.logged(HangupCause::CarrierAuthFailed);
        desk.holds_nothing_more();
    });
}

#[test]
fn a_number_that_may_not_be_called_reaches_no_carrier() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        let listening = desk.trunk.silent();
        listening.set_nonblocking(true).unwrap();
        for number in ["+33123456789", "+8811234567"] {
            desk.alice.dial(number);
            desk.alice.wait_for(&says("alert", "This number may not be called from here."), secs(10));
            desk.logged(HangupCause::NotAllowed);
        }
        assert!(listening.recv(&mut [0; 64]).is_err(), "the carrier was asked");
        desk.holds_nothing_more();
    });
}

#[test]
fn without_an_emergency_trunk_the_page_says_so_before_and_after() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        desk.alice.wait_for(&says("note", "cannot be called from this phone"), secs(5));
        desk.alice.dial("112");
        desk.alice.wait_for(&says("alert", "Emergency calls cannot be made from this phone."), secs(10));
        desk.logged(HangupCause::NoEmergencyTrunk);
        desk.holds_nothing_more();
    });
}

#[test]
fn with_an_emergency_trunk_the_number_leaves_as_it_was_dialled() {
    story(|| {
        let trunk = Trunk::on_loopback().for_emergencies();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path();
        let tone = offhook_tests::sound::ulaw_file(folder, 800, 20);
        let mut sipp = Sipp::carrier(folder, trunk.port, &Carrier { answer: Some(tone), ..Carrier::default() });
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        assert_eq!(alice.count(&says("note", "cannot be called from this phone")), 0);
        alice.dial("112");
        alice.wait_active();
        alice.hang_up();
        assert!(sipp.finish(secs(10)), "{}", sipp.messages());
        assert!(sipp.messages().contains("INVITE sip:112@"), "{}", sipp.messages());
    });
}

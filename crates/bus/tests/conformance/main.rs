//! One set of stories for both transports: what holds inside one process holds over a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixture;
mod leases;
mod outage;
mod presence;
mod requests;

use fixture::{InProcess, Nats};

macro_rules! on_both_transports {
    ($($story:path => $name:ident,)*) => {
        mod in_process {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { $story(InProcess::start().await).await; })*
        }
        mod nats {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { $story(Nats::start().await).await; })*
        }
    };
}

on_both_transports! {
    requests::the_node_that_is_named_answers => the_node_that_is_named_answers,
    requests::nobody_there_is_known_at_once => nobody_there_is_known_at_once,
    requests::a_silent_server_is_a_timeout => a_silent_server_is_a_timeout,
    requests::a_request_read_after_its_deadline_is_not_carried_out => a_request_read_after_its_deadline_is_not_carried_out,
    requests::a_repeated_command_happens_once => a_repeated_command_happens_once,
    requests::a_refusal_arrives_with_its_code_and_sentence => a_refusal_arrives_with_its_code_and_sentence,
    requests::an_older_epoch_is_refused => an_older_epoch_is_refused,
    requests::any_node_shares_the_work => any_node_shares_the_work,
    requests::work_that_ends_without_a_reply_is_an_internal_error => work_that_ends_without_a_reply_is_an_internal_error,
    requests::a_message_over_the_limit_is_refused_before_it_is_sent => a_message_over_the_limit_is_refused_before_it_is_sent,
    requests::an_event_reaches_its_tenants_listeners_and_no_others => an_event_reaches_its_tenants_listeners_and_no_others,
    presence::a_node_is_seen_while_it_announces_itself => a_node_is_seen_while_it_announces_itself,
    presence::a_reader_of_one_kind_hears_it_come_and_go_and_no_other => a_reader_of_one_kind_hears_it_come_and_go_and_no_other,
    presence::a_node_that_dies_is_gone_after_its_time_to_live => a_node_that_dies_is_gone_after_its_time_to_live,
    leases::a_lease_has_one_holder_and_the_next_has_a_higher_epoch => a_lease_has_one_holder_and_the_next_has_a_higher_epoch,
    leases::the_lease_of_a_dead_holder_falls_to_the_one_who_waits => the_lease_of_a_dead_holder_falls_to_the_one_who_waits,
    leases::contenders_at_the_same_moment_make_one_holder => contenders_at_the_same_moment_make_one_holder,
    leases::a_name_that_could_leave_its_bucket_is_refused => a_name_that_could_leave_its_bucket_is_refused,
    outage::requests_fail_while_the_bus_is_away_and_work_again_when_it_is_back => requests_fail_while_the_bus_is_away_and_work_again_when_it_is_back,
    outage::nobody_is_called_dead_because_the_bus_was_away => nobody_is_called_dead_because_the_bus_was_away,
    outage::a_holder_cut_off_loses_its_lease_and_gets_it_back_with_a_new_epoch => a_holder_cut_off_loses_its_lease_and_gets_it_back_with_a_new_epoch,
    outage::facts_made_while_the_bus_is_away_are_stored_once_it_is_back => facts_made_while_the_bus_is_away_are_stored_once_it_is_back,
}

//! Call-control's mind: the call and leg state machines, recording policy, placement and the rebuild after a
//! restart. Pure: it is told inputs and the time, and says what to send, to show and to write.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audience;
mod board;
mod call;
mod commands;
mod desk;
mod dial;
mod ending;
mod facts;
pub mod ids;
mod input;
mod inventory;
mod leg;
mod media;
mod output;
mod place;
mod policy;
mod progress;
mod rebuild;
mod recording;
mod rows;
mod sessions;
mod timers;
mod usage;
mod view;

pub use board::{Gauges, Switchboard};
pub use ids::{IdMaker, Now, RequestId, SessionId, Tag, UserId};
pub use input::{Actor, Command, Input, NodeReply, RequestFailure, User};
pub use output::{ClientEvent, CommandError, CommandReply, NodeRequest, Output, RefusalCode};
pub use policy::{Policy, RecordingMode, TrunkRule};
pub use rows::{CallEventRow, CallRow, ConsentRow, ConsentStatus, LegRow, RecordingOutcome, StoredCall, Write};
pub use view::{
    CallView, CallWord, CauseSide, Direction, LegView, LegWord, PartyKind, PartyView, Reason, RecordingTrouble,
    RecordingView, RecordingWord,
};

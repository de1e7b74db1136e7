//! SIP responses and Q.850 values to hang-up causes, and back (RFC 3398 §8.2.6 and §7.2.4, read for people).

use offhook_contract::HangupCause;

/// Why the other side ended or refused, from its response code and the Q.850 value of its Reason header, if any.
pub fn cause_of(code: u16, q850: Option<u8>) -> HangupCause {
    use HangupCause as C;
    match code {
        // These codes say little; the telephone network's own word is better.
        480 | 500 | 502 | 503 | 603 | 403 => q850.and_then(cause_of_q850).unwrap_or(match code {
            403 => C::Rejected,
            480 => C::NoAnswer,
            603 => C::Rejected,
            503 => C::Congestion,
            _ => C::CarrierUnavailable,
        }),
        200..=299 => C::Normal,
        300..=399 => C::Redirected,
        401 | 407 => C::CarrierAuthFailed,
        404 | 410 | 414 | 416 | 484 | 485 | 604 => C::NotFound,
        408 => C::NoAnswer,
        415 | 488 | 606 => C::MediaIncompatible,
        486 | 600 => C::Busy,
        487 => C::Cancelled,
        402 | 433 | 607 | 608 => C::Rejected,
        413 | 421..=429 | 504 | 505 | 513 | 580 => C::CarrierUnavailable,
        _ => q850.and_then(cause_of_q850).unwrap_or(C::CarrierUnavailable),
    }
}

/// A release cause of the telephone network; `None` for those that say nothing (16, 31 and unknown ones).
pub const fn cause_of_q850(q850: u8) -> Option<HangupCause> {
    use HangupCause as C;
    Some(match q850 {
        1 | 2 | 3 | 22 | 28 => C::NotFound,
        17 => C::Busy,
        18 | 19 => C::NoAnswer,
        20 => C::Offline,
        21 => C::Rejected,
        23 => C::Redirected,
        27 | 38 | 41 => C::CarrierUnavailable,
        34 | 42 | 44 | 47 => C::Congestion,
        55 | 57 => C::Rejected,
        58 | 65 | 79 | 88 => C::MediaIncompatible,
        _ => return None,
    })
}

/// The response with which an incoming call that ends for `cause` is refused.
pub const fn refusal_code(cause: HangupCause) -> u16 {
    use HangupCause as C;
    match cause {
        C::Busy => 486,
        C::NotFound => 404,
        C::NotAllowed | C::NoEmergencyTrunk => 403,
        C::Rejected => 603,
        C::NoAnswer | C::Offline | C::ClientGone => 480,
        C::MediaIncompatible => 488,
        C::LimitReached | C::Congestion | C::Drained => 503,
        C::Cancelled => 487,
        C::Normal
        | C::CarrierUnavailable
        | C::CarrierAuthFailed
        | C::Redirected
        | C::MediaLost
        | C::NodeLost
        | C::Orphaned
        | C::InternalError => 500,
    }
}

/// The Reason header of a BYE, a CANCEL or a refusal (RFC 3326, RFC 6432).
pub fn reason_header(cause: HangupCause) -> String {
    format!("Q.850;cause={}", cause.q850())
}

#[cfg(test)]
mod tests {
    use super::*;
    use HangupCause as C;

    #[test]
    fn every_refusal_has_its_cause() {
        for (code, q850, cause) in [
            (486, None, C::Busy),
            (600, None, C::Busy),
            (404, None, C::NotFound),
            (484, None, C::NotFound),
            (604, None, C::NotFound),
            (480, None, C::NoAnswer),
            (408, None, C::NoAnswer),
            (603, None, C::Rejected),
            (403, None, C::Rejected),
            (503, None, C::Congestion),
            (500, None, C::CarrierUnavailable),
            (488, None, C::MediaIncompatible),
            (302, None, C::Redirected),
            (487, None, C::Cancelled),
            (401, None, C::CarrierAuthFailed),
            (699, None, C::CarrierUnavailable),
            (480, Some(20), C::Offline),
            (503, Some(17), C::Busy),
            (500, Some(1), C::NotFound),
            (503, Some(34), C::Congestion),
            (503, Some(16), C::Congestion),
            (486, Some(16), C::Busy),
        ] {
            assert_eq!(cause_of(code, q850), cause, "{code} {q850:?}");
        }
    }

    #[test]
    fn a_refusal_sent_is_read_as_the_same_cause_by_our_own_gateway() {
        for cause in [C::Busy, C::NotFound, C::Rejected, C::NoAnswer, C::MediaIncompatible, C::Congestion] {
            assert_eq!(cause_of(refusal_code(cause), Some(cause.q850())), cause);
        }
        assert_eq!(reason_header(C::Busy), "Q.850;cause=17");
    }
}

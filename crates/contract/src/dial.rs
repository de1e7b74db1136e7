//! Dialling rules: checked by call-control before a call, and again by the gateway before the INVITE.
//! Input is normalised to E.164 first and only then compared.
use serde::{Deserialize, Serialize};
use std::fmt;

/// An E.164 number: `+` and 3 to 15 digits. Prints shortened (`+1555…0000`); [`PhoneNumber::e164`] is the whole.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("a number has digits, one leading '+', and spaces, '-', '.', '(' or ')' between them")]
    Characters,
    #[error("a number has 3 to 15 digits")]
    Length,
    #[error("a national number needs [dial] country_code to be set; dial it with '+' and the country code")]
    NoCountry,
}

impl PhoneNumber {
    /// What a person types or a trunk sends: `+49 30 1234`, `0049301234`, `0301234` (with a country code), `49301234`
    /// (`digits_are_international`, as many trunks send it).
    pub fn normalise(input: &str, rules: &NumberingPlan) -> Result<Self, NumberError> {
        if input.len() > 64 {
            return Err(NumberError::Length);
        }
        let mut digits = String::with_capacity(16);
        let mut plus = false;
        for (at, c) in input.trim().chars().enumerate() {
            match c {
                '0'..='9' => digits.push(c),
                '+' if at == 0 => plus = true,
                ' ' | '-' | '.' | '(' | ')' => {}
                _ => return Err(NumberError::Characters),
            }
        }
        if plus {
            return Self::from_digits(&digits);
        }
        if let Some(rest) = digits.strip_prefix(rules.international_prefix.as_str())
            && !rules.international_prefix.is_empty()
        {
            return Self::from_digits(rest);
        }
        let country = rules.country_code.as_deref();
        match (digits.strip_prefix(rules.trunk_prefix.as_str()), country) {
            (Some(rest), Some(country)) if !rules.trunk_prefix.is_empty() => {
                Self::from_digits(&format!("{country}{rest}"))
            }
            (Some(_), None) if !rules.trunk_prefix.is_empty() => Err(NumberError::NoCountry),
            _ if rules.digits_are_international => Self::from_digits(&digits),
            (_, Some(country)) => Self::from_digits(&format!("{country}{digits}")),
            (_, None) => Err(NumberError::NoCountry),
        }
    }

    fn from_digits(digits: &str) -> Result<Self, NumberError> {
        if !(3..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NumberError::Length);
        }
        Ok(Self(format!("+{digits}")))
    }

    /// `+` and all digits: for the wire and the database, never for a log.
    pub fn e164(&self) -> &str {
        &self.0
    }
    pub fn digits(&self) -> &str {
        self.0.get(1..).unwrap_or_default()
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = NumberError;
    fn try_from(text: String) -> Result<Self, NumberError> {
        Self::from_digits(text.strip_prefix('+').ok_or(NumberError::Characters)?)
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> String {
        number.0
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = &self.0;
        match (n.get(..4), n.get(n.len().saturating_sub(2)..)) {
            (Some(head), Some(tail)) if n.len() > 8 => write!(f, "{head}…{tail}"),
            _ => f.write_str("+…"),
        }
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How typed digits become E.164.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NumberingPlan {
    /// Without `+`, for example "49".
    pub country_code: Option<String>,
    pub international_prefix: String,
    pub trunk_prefix: String,
    pub digits_are_international: bool,
}

impl Default for NumberingPlan {
    fn default() -> Self {
        Self {
            country_code: None,
            international_prefix: "00".into(),
            trunk_prefix: "0".into(),
            digits_are_international: false,
        }
    }
}

/// What may be dialled, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DialRules {
    /// E.164 prefixes, for example "+49" or "+1212". Nothing is allowed until something is listed.
    pub allowed_prefixes: Vec<String>,
    /// Beats `allowed_prefixes`: premium and satellite ranges.
    pub denied_prefixes: Vec<String>,
    /// As dialled: "112", "911". They pass every limit.
    pub emergency_numbers: Vec<String>,
    pub max_concurrent_calls: u32,
    pub max_calls_per_minute: u32,
    pub max_minutes_per_day: u32,
    pub max_call_s: u32,
}

impl Default for DialRules {
    fn default() -> Self {
        Self {
            allowed_prefixes: Vec::new(),
            denied_prefixes: vec!["+881".into(), "+882".into(), "+883".into(), "+870".into(), "+979".into()],
            emergency_numbers: vec!["112".into(), "911".into(), "999".into(), "110".into()],
            max_concurrent_calls: 50,
            max_calls_per_minute: 60,
            max_minutes_per_day: 3_000,
            max_call_s: 4 * 3_600,
        }
    }
}

/// What is in use when a call is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DialUsage {
    pub concurrent_calls: u32,
    pub calls_last_minute: u32,
    pub minutes_today: u32,
}

/// Where a call may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    Number(PhoneNumber),
    /// The digits as dialled: emergency numbers are not E.164.
    Emergency(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialRefusal {
    #[error(transparent)]
    Number(#[from] NumberError),
    #[error("{0} is under no allowed prefix")]
    NotAllowed(PhoneNumber),
    #[error("{0} is under a denied prefix")]
    Denied(PhoneNumber),
    #[error("{limit} calls at the same time are allowed")]
    Concurrent { limit: u32 },
    #[error("{limit} calls a minute are allowed")]
    Rate { limit: u32 },
    #[error("{limit} minutes a day are allowed")]
    Minutes { limit: u32 },
}

impl DialRules {
    pub fn is_emergency(&self, dialled: &str) -> bool {
        let digits: String = dialled.chars().filter(char::is_ascii_digit).collect();
        !digits.is_empty() && self.emergency_numbers.contains(&digits)
    }

    /// Typed text to a destination that may be dialled now, or the reason why not.
    pub fn check(&self, dialled: &str, plan: &NumberingPlan, usage: DialUsage) -> Result<Destination, DialRefusal> {
        if self.is_emergency(dialled) {
            let digits = dialled.chars().filter(char::is_ascii_digit).collect();
            return Ok(Destination::Emergency(digits));
        }
        let number = PhoneNumber::normalise(dialled, plan)?;
        self.check_number(&number, usage)?;
        Ok(Destination::Number(number))
    }

    /// The same rules for a number that is E.164 already: the gateway's gate.
    pub fn check_number(&self, number: &PhoneNumber, usage: DialUsage) -> Result<(), DialRefusal> {
        let under = |list: &[String]| list.iter().any(|p| !p.is_empty() && number.e164().starts_with(p.as_str()));
        if under(&self.denied_prefixes) {
            return Err(DialRefusal::Denied(number.clone()));
        }
        if !under(&self.allowed_prefixes) {
            return Err(DialRefusal::NotAllowed(number.clone()));
        }
        if usage.concurrent_calls >= self.max_concurrent_calls {
            return Err(DialRefusal::Concurrent { limit: self.max_concurrent_calls });
        }
        if usage.calls_last_minute >= self.max_calls_per_minute {
            return Err(DialRefusal::Rate { limit: self.max_calls_per_minute });
        }
        if usage.minutes_today >= self.max_minutes_per_day {
            return Err(DialRefusal::Minutes { limit: self.max_minutes_per_day });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn germany() -> NumberingPlan {
        NumberingPlan { country_code: Some("49".into()), ..NumberingPlan::default() }
    }
    fn rules() -> DialRules {
        DialRules {
            allowed_prefixes: vec!["+49".into(), "+1".into()],
            denied_prefixes: vec!["+49900".into()],
            ..DialRules::default()
        }
    }

    #[test]
    fn the_same_number_in_every_spelling_becomes_one_e164_number() {
        for text in ["+49 30 1234567", "0049-30-1234567", "030 1234567", "(030) 123.4567"] {
            assert_eq!(PhoneNumber::normalise(text, &germany()).unwrap().e164(), "+49301234567", "{text}");
        }
    }

    #[test]
    fn spellings_that_smuggle_are_refused() {
        for text in
            ["+49%2B1", "sip:1", "12;phone-context=+1", "1+2", "", "+", "+12", "+1234567890123456", "12a", "\r\n"]
        {
            assert!(PhoneNumber::normalise(text, &germany()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_denied_prefix_beats_an_allowed_one_and_nothing_is_allowed_by_default() {
        let usage = DialUsage::default();
        assert!(rules().check("+4930123", &germany(), usage).is_ok());
        assert!(matches!(rules().check("0900 123456", &germany(), usage), Err(DialRefusal::Denied(_))));
        assert!(matches!(rules().check("+3312345", &germany(), usage), Err(DialRefusal::NotAllowed(_))));
        assert!(matches!(
            DialRules::default().check("+12125550000", &germany(), usage),
            Err(DialRefusal::NotAllowed(_))
        ));
    }

    #[test]
    fn an_emergency_number_passes_every_limit() {
        let full = DialUsage { concurrent_calls: u32::MAX, calls_last_minute: u32::MAX, minutes_today: u32::MAX };
        assert_eq!(rules().check("112", &germany(), full), Ok(Destination::Emergency("112".into())));
        assert!(matches!(rules().check("+4930123", &germany(), full), Err(DialRefusal::Concurrent { .. })));
    }

    #[test]
    fn a_number_prints_shortened() {
        let number = PhoneNumber::normalise("+493012345678", &germany()).unwrap();
        assert_eq!(format!("{number} {number:?}"), "+493…78 +493…78");
    }
}

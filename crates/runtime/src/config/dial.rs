//! `[dial]`: what may be dialled and how typed digits are read. Call-control and the gateway check with the same rules.
use super::{ConfigError, ConfigFile};
use offhook_contract::DialRules;
use offhook_contract::dial::NumberingPlan;
use serde::Deserialize;

/// The section, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dial {
    pub rules: DialRules,
    pub numbering: NumberingPlan,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawDial {
    allowed_prefixes: Vec<String>,
    denied_prefixes: Vec<String>,
    emergency_numbers: Vec<String>,
    max_concurrent_calls: u32,
    max_calls_per_minute: u32,
    max_minutes_per_day: u32,
    max_call_s: u32,
    country_code: String,
    international_prefix: String,
    trunk_prefix: String,
}

impl Default for RawDial {
    fn default() -> Self {
        let (rules, plan) = (DialRules::default(), NumberingPlan::default());
        Self {
            allowed_prefixes: rules.allowed_prefixes,
            denied_prefixes: rules.denied_prefixes,
            emergency_numbers: rules.emergency_numbers,
            max_concurrent_calls: rules.max_concurrent_calls,
            max_calls_per_minute: rules.max_calls_per_minute,
            max_minutes_per_day: rules.max_minutes_per_day,
            max_call_s: rules.max_call_s,
            country_code: plan.country_code.unwrap_or_default(),
            international_prefix: plan.international_prefix,
            trunk_prefix: plan.trunk_prefix,
        }
    }
}

impl ConfigFile {
    pub fn dial(&self) -> Result<Dial, ConfigError> {
        let raw: RawDial = self.section("dial")?;
        let digits = |text: &str, most: usize| text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
        let prefix = |text: &String| text.strip_prefix('+').is_some_and(|d| !d.is_empty() && digits(d, 15));
        for (path, list) in [("allowed_prefixes", &raw.allowed_prefixes), ("denied_prefixes", &raw.denied_prefixes)] {
            if !list.iter().all(prefix) {
                return Err(
                    self.refusal(&format!("dial.{path}"), "prefixes such as \"+49\": a plus, then 1 to 15 digits")
                );
            }
        }
        if !raw.emergency_numbers.iter().all(|n| !n.is_empty() && digits(n, 8)) {
            return Err(self.refusal("dial.emergency_numbers", "1 to 8 digits each, as dialled"));
        }
        if !digits(&raw.country_code, 4) {
            return Err(self.refusal("dial.country_code", "digits without +, such as \"49\""));
        }
        for (path, value) in [("international_prefix", &raw.international_prefix), ("trunk_prefix", &raw.trunk_prefix)]
        {
            if !digits(value, 6) {
                return Err(self.refusal(&format!("dial.{path}"), "at most 6 digits"));
            }
        }
        if !(60..=86_400).contains(&raw.max_call_s) {
            return Err(self.refusal("dial.max_call_s", "60 to 86400"));
        }
        Ok(Dial {
            rules: DialRules {
                allowed_prefixes: raw.allowed_prefixes,
                denied_prefixes: raw.denied_prefixes,
                emergency_numbers: raw.emergency_numbers,
                max_concurrent_calls: raw.max_concurrent_calls,
                max_calls_per_minute: raw.max_calls_per_minute,
                max_minutes_per_day: raw.max_minutes_per_day,
                max_call_s: raw.max_call_s,
            },
            numbering: NumberingPlan {
                country_code: Some(raw.country_code).filter(|c| !c.is_empty()),
                international_prefix: raw.international_prefix,
                trunk_prefix: raw.trunk_prefix,
                digits_are_international: false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(text: &str) -> Result<Dial, ConfigError> {
        ConfigFile::parse("offhook.toml", text, [])?.dial()
    }

    #[test]
    fn nothing_may_be_dialled_until_it_is_listed() {
        assert_eq!(dial("").unwrap(), Dial::default());
        let listed = dial("[dial]\nallowed_prefixes = [\"+49\"]\ncountry_code = \"49\"\n").unwrap();
        assert_eq!(listed.rules.allowed_prefixes, ["+49"]);
        assert_eq!(listed.numbering.country_code.as_deref(), Some("49"));
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_their_path() {
        for (line, path) in [
            ("allowed_prefixes = [\"49\"]", "dial.allowed_prefixes"),
            ("denied_prefixes = [\"+\"]", "dial.denied_prefixes"),
            ("emergency_numbers = [\"+112\"]", "dial.emergency_numbers"),
            ("country_code = \"+49\"", "dial.country_code"),
            ("trunk_prefix = \"x\"", "dial.trunk_prefix"),
            ("max_call_s = 5", "dial.max_call_s"),
            ("alowed_prefixes = []", "alowed_prefixes"),
        ] {
            let error = dial(&format!("[dial]\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }
}

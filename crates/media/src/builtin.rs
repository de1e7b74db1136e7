//! The prompts shipped inside the binary; `assets/prompts/make.sh` makes the files.

const EN_RECORDED: &[u8] = include_bytes!("../../../assets/prompts/en/recorded.wav");
const EN_HOLD: &[u8] = include_bytes!("../../../assets/prompts/en/hold.wav");

/// The language spoken when the one asked for is not shipped.
pub const FALLBACK_LANGUAGE: &str = "en";

/// The prompts that exist in every shipped language.
pub const NAMES: [&str; 2] = ["recorded", "hold"];

/// A shipped prompt as a WAV file, in exactly this language.
pub fn prompt(name: &str, language: &str) -> Option<&'static [u8]> {
    match (name, language) {
        ("recorded", "en") => Some(EN_RECORDED),
        ("hold", "en") => Some(EN_HOLD),
        _ => None,
    }
}

/// A shipped prompt in the language asked for (`de-AT` falls to `de`), else in the fallback language.
pub fn prompt_or_fallback(name: &str, language: &str) -> Option<&'static [u8]> {
    let primary = language.split(['-', '_']).next().unwrap_or(language);
    prompt(name, language).or_else(|| prompt(name, primary)).or_else(|| prompt(name, FALLBACK_LANGUAGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Prompt, encode, level};

    #[test]
    fn every_shipped_prompt_encodes() {
        for name in NAMES {
            let prompt = Prompt::from_wav(prompt(name, "en").unwrap()).unwrap();
            assert_eq!(prompt.rate, 16_000, "{name}");
            let encoded = encode(&prompt).unwrap();
            assert!(!encoded.content(Codec::Opus).is_empty());
            assert!((15..40).contains(&level::dbov(&prompt.samples)), "{name}: {}", level::dbov(&prompt.samples));
        }
    }

    #[test]
    fn the_notice_is_short_and_the_hold_loop_fills_whole_frames() {
        let notice = Prompt::from_wav(EN_RECORDED).unwrap();
        assert!((800..2_500).contains(&notice.duration_ms()), "{}", notice.duration_ms());
        let hold = Prompt::from_wav(EN_HOLD).unwrap();
        assert!((4_000..=8_000).contains(&hold.duration_ms()), "{}", hold.duration_ms());
        assert_eq!(hold.samples.len() % 320, 0);
    }

    #[test]
    fn a_missing_language_falls_back_and_a_missing_name_does_not() {
        assert_eq!(prompt("recorded", "fr"), None);
        assert!(prompt_or_fallback("recorded", "fr-CA").is_some());
        assert_eq!(prompt_or_fallback("unknown", "en"), None);
    }
}
